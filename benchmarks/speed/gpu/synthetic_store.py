"""A store that trains like a real one as far as time goes, made without nuScenes and backbones.

Maps are noise after a ReLU with empty LiDAR cells (`benchmarks.speed.store.sample_rows`: they
compress about as well as those of seeded backbones); cameras form a ring, boxes stand on the
ground. Only `DISTINCT` samples are drawn; the others repeat their maps under their own tokens,
which costs disk space like any sample, but no time to draw.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.speed.store.sample_rows import frame_as, map_values, new_store, synthetic_samples
from cache.coordination.null_store import NULL_SAMPLES, null_identity, null_path
from cache.create import StoreSpec, open_or_create
from cache.reader import CachedFeatures
from cache.writer import StoreWriter
from shared.config.classes import CAMERAS, CLASS_NAMES
from shared.config.preset import Preset
from shared.data.features import NO_ANNOTATIONS, NO_CAMERAS, Annotations, Frame, FrameFeatures

COMMAND = "python -m benchmarks.speed.gpu"
# Samples of a store: several times a batch of 16, so that batches differ. On disk, null features
# included, with the default codec: 0.7 GB at r50_800x320, 0.9 GB at vov_1600x640.
SAMPLES = {"r50_800x320": 40, "vov_1600x640": 20}
OTHER_SAMPLES = 24
DISTINCT = 4
# A batch of 16 nearly always has a sample of 83 boxes: with ten denoising copies, a step then has
# 900 + 830 queries.
BOX_COUNTS = (20, 34, 50, 83)
FIELD_OF_VIEW_DEG = 65.0  # of a camera; six of them overlap by 5 degrees
EYE_HEIGHT_M = 1.5
BOX_SIZES_M = np.array(
    [
        *((4.6, 1.9, 1.7), (6.9, 2.5, 2.8), (6.4, 2.9, 3.2), (11.0, 2.9, 3.5), (12.3, 2.9, 3.9)),
        *((0.5, 2.5, 1.0), (2.1, 0.8, 1.5), (1.7, 0.6, 1.3), (0.7, 0.7, 1.8), (0.4, 0.4, 1.1)),
    ],
    np.float32,
)  # length, width, height by class, about their means in nuScenes
WRITERS = 4  # threads


def write_synthetic_store(path: Path, preset: Preset, count: int | None = None) -> CachedFeatures:
    """Write a complete store with null features.

    Args:
        path: of the store; there must be nothing.
        preset: decides the shapes.
        count: samples; by default `SAMPLES`.
    """
    samples = synthetic_samples(count or SAMPLES.get(preset.name, OTHER_SAMPLES))
    drawn = [_features(preset, number) for number in range(min(DISTINCT, len(samples.tokens)))]
    writer = new_store(path, preset, samples, max_boxes=max(BOX_COUNTS), command=COMMAND)
    write_null_features(writer, preset)

    def write(shard_index: int) -> None:
        shard = writer.store.shard(shard_index)
        rows = []
        for place in range(shard.start, shard.start + len(shard.tokens)):
            row = drawn[place % len(drawn)]
            frame = frame_as(row.frame, samples, place)
            rows.append(FrameFeatures(frame=frame, maps=row.maps))
        writer.write_shard(shard, rows)

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(write, [shard.index for shard in writer.pending()]))
    return CachedFeatures(path)


def write_null_features(writer: StoreWriter, preset: Preset) -> None:
    """Write what stands for absent sensors: a sample of maps like any other, without boxes."""
    metadata = writer.store.metadata
    spec = StoreSpec(
        preset=preset,
        identity=null_identity(metadata.identity),
        samples=NULL_SAMPLES,
        max_boxes=1,
        provenance=metadata.provenance,
        codec=metadata.codec,
    )
    row = _features(preset, DISTINCT)
    frame = frame_as(replace(row.frame, annotations=NO_ANNOTATIONS), NULL_SAMPLES, 0)
    null_writer = open_or_create(null_path(writer.store.path), spec)
    for shard in null_writer.pending():
        null_writer.write_shard(shard, [FrameFeatures(frame=frame, maps=row.maps)])


def _features(preset: Preset, number: int) -> FrameFeatures:
    random = np.random.default_rng(number)
    camera = preset.camera
    frame = Frame(
        token="",
        scene="",
        timestamp_us=0,
        variant=0,
        img_from_lidar=NO_CAMERAS
        if camera is None
        else camera_ring(camera.height_px, camera.width_px),
        ego_from_lidar=np.eye(4),
        global_from_ego=np.eye(4),
        annotations=_annotations(preset, BOX_COUNTS[number % len(BOX_COUNTS)], random),
    )
    return FrameFeatures(
        frame=frame, maps={spec.name: map_values(spec, random) for spec in preset.maps}
    )


def _annotations(preset: Preset, count: int, random: np.random.Generator) -> Annotations:
    """Return boxes of all classes on the ground, anywhere in the range."""
    low, high = (np.array(preset.grid.point_range_m[side : side + 2]) for side in (0, 3))
    labels = np.arange(count, dtype=np.int64) % len(CLASS_NAMES)
    boxes = np.zeros((count, 9), np.float32)
    boxes[:, :2] = random.uniform(0.98 * low, 0.98 * high, (count, 2))
    boxes[:, 3:6] = BOX_SIZES_M[labels] * random.uniform(0.8, 1.2, (count, 3))
    boxes[:, 2] = boxes[:, 5] / 2 - EYE_HEIGHT_M
    boxes[:, 6] = random.uniform(-np.pi, np.pi, count)
    boxes[:, 7:] = random.normal(0.0, 2.0, (count, 2))
    points = np.full(count, 20, np.int64)
    return Annotations(
        boxes_lidar=boxes, labels=labels, lidar_points=points, radar_points=np.zeros_like(points)
    )


def camera_ring(height_px: int, width_px: int) -> NDArray[np.float64]:
    """Return (V, 4, 4): cameras evenly around the LiDAR, level, in the frame of the LiDAR."""
    focal_px = width_px / 2 / np.tan(np.radians(FIELD_OF_VIEW_DEG / 2))
    lens = np.eye(4)
    lens[:2, :3] = [[focal_px, 0.0, width_px / 2], [0.0, focal_px, height_px / 2]]
    yaws = 2.0 * np.pi * np.arange(len(CAMERAS)) / len(CAMERAS)
    return np.stack([lens @ _camera_from_lidar(yaw) for yaw in yaws])


def _camera_from_lidar(yaw: float) -> NDArray[np.float64]:
    """Return (4, 4) of a camera at the origin: x to its right, y down, z ahead."""
    sine, cosine = np.sin(yaw), np.cos(yaw)
    right, down, ahead = (sine, -cosine, 0.0), (0.0, 0.0, -1.0), (cosine, sine, 0.0)
    matrix = np.eye(4)
    matrix[:3, :3] = [right, down, ahead]
    return matrix
