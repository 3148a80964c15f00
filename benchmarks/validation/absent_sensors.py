"""How far an absent sensor of an augmented sample is from the one that a store keeps.

    python -m benchmarks.validation.absent_sensors DATA --preset tiny --head RUN
    python -m benchmarks.validation.absent_sensors DATA --preset r50_800x320 --samples 2

Official ModalMask3D takes a sensor away before the augmentation, so in an augmented sample the
absent LiDAR is one voxel at the drawn shift, and black images have GridMask's holes. A store keeps
the answer to the recorded sample. Both answers go through a detector here (--checkpoint: of
official CMT, for backbones and head; --head: a run of `train-stage2`; seeded without), beside a
second official answer, that of the next variant: what training sees anyway. DATA is a folder of
nuScenes, complete or not. Also printed: what storing an answer of its own for every augmented row
would cost, in processor time and bytes.
"""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

from shared.config.augmentation import VariantDraws, official_augmentation
from shared.config.classes import CAMERAS, LIDAR
from shared.config.preset_catalogue import load_preset
from shared.data.batch import collate
from shared.data.features import FrameFeatures
from shared.data.ground_truth import GroundTruth
from shared.data.sensor_drop import Absent, condition, without
from shared.data.targets import trainable_annotations
from shared.model.detector import CmtDetector
from shared.model.initial_detector import fresh_detector
from shared.model.losses import detection_losses, total_loss
from shared.process.command import command_parser
from stage1_extract.backbones.frozen import FrozenBackbones
from stage1_extract.backbones.live import LiveFeatures
from stage1_extract.backbones.weights import frozen_backbones
from stage1_extract.extraction.null_sample import null_raw_frame
from stage1_extract.nuscenes.nuscenes_tables import read_tables
from stage1_extract.preprocessing.absent_input import black_images, zero_voxels
from stage1_extract.preprocessing.grid_mask import mask_stripes
from stage1_extract.preprocessing.images import normalised
from stage1_extract.preprocessing.variant import Variant, draw_variant
from stage1_extract.preprocessing.voxels import batch_voxels
from stage2_train.run.run_checkpoint import read_run_checkpoint, trained_weights

VERSION, SPLITS = "v1.0-mini", "mini_train+mini_val"
ABSENT: tuple[Absent, ...] = ((LIDAR,), CAMERAS)
Maps = dict[str, NDArray[np.float32]]
Figures = dict[str, list[float]]


def absent_maps(frozen: FrozenBackbones, variant: Variant) -> tuple[Maps, dict[str, float]]:
    """Return the exact maps of the absent sensors in a variant, and the seconds each took.

    All six views are the same black image, so that it passes the image backbone once.
    """
    preset = frozen.preset
    assert preset.camera is not None
    stripes = None
    if variant.grid_mask is not None:
        size_px = preset.camera.height_px, preset.camera.width_px
        stripes = torch.from_numpy(mask_stripes(variant.grid_mask, *size_px))
    image = normalised(black_images(preset.camera)[None, :1], preset.camera, stripes)
    voxels = batch_voxels([zero_voxels(preset, variant)])
    names = [spec.name for spec in frozen.cut.maps(preset)]
    maps: Maps = {}
    seconds: dict[str, float] = {}
    parts: tuple[tuple[str, Callable[[], Any]], ...] = (
        ("camera", lambda: frozen.camera_maps(image)),
        ("lidar", lambda: frozen.lidar_maps(voxels)),
    )
    for kind, compute in parts:
        began = time.process_time()
        values = [value.numpy() for value in compute()]
        seconds[kind] = time.process_time() - began
        for name, value in zip((n for n in names if n.startswith(kind)), values, strict=True):
            maps[name] = np.repeat(value, len(CAMERAS), axis=0) if kind == "camera" else value[0]
    return maps, seconds


def compressed_bytes(maps: Mapping[str, Any], views: int) -> int:
    """Return the size of maps in float16 under zstd 1, with so many of the views."""
    stored = (v[:views] if name.startswith("camera") else v for name, v in maps.items())
    return sum(len(Zstd(1).encode(v.astype(np.float16).tobytes())) for v in stored)


def add_comparison(
    figures: Figures, detector: CmtDetector, sources: Mapping[str, FrameFeatures]
) -> None:
    """Compare the outputs of every source with those of the source called `exact`."""
    outputs = {}
    for name, features in sources.items():
        batch = collate([features])
        answer = detector(batch)
        truth = GroundTruth.of(batch.boxes_lidar, batch.labels)
        terms = detection_losses(answer, truth, detector.preset.head)
        scores = answer.class_logits[-1].sigmoid()
        outputs[name] = (scores, answer.center_xy_m[-1], float(total_loss(terms)))
    scores, centres_m, loss = outputs.pop("exact")
    for name, (its_scores, its_centres_m, its_loss) in outputs.items():
        gaps_m = (its_centres_m - centres_m).norm(dim=-1)
        figures[f"{name}: score, largest"].append(float((its_scores - scores).abs().max()))
        figures[f"{name}: score, mean"].append(float((its_scores - scores).abs().mean()))
        figures[f"{name}: centre m, median"].append(float(gaps_m.median()))
        figures[f"{name}: centre m, largest"].append(float(gaps_m.max()))
        figures[f"{name}: loss, relative"].append(abs(its_loss - loss) / loss)


@torch.inference_mode()
def measure(
    root: Path,
    preset_name: str,
    head: Path | None,
    samples: int,
    checkpoint: Path | None = None,
) -> dict[str, Any]:
    """Return the figures of both conditions, over samples in two variants each."""
    preset = load_preset(preset_name)
    assert preset.camera is not None
    augmentation = official_augmentation(preset)
    records = read_tables(root, VERSION, SPLITS, existing_only=True)[:samples]
    frozen = frozen_backbones(preset, checkpoint)[0]
    live = LiveFeatures(records, frozen, VariantDraws(augmentation=augmentation))
    detector = fresh_detector(preset, seed=0, checkpoint=checkpoint).eval()
    if head is not None:
        detector.load_state_dict(trained_weights(read_run_checkpoint(head)))
    null = live.run([null_raw_frame(preset)])[0]
    by_condition: dict[str, Figures] = {condition(a): defaultdict(list) for a in ABSENT}
    cost: Figures = defaultdict(list)
    for record in records:
        drawn = {
            n: draw_variant(
                record.token, n, seed=0, camera=preset.camera, augmentation=augmentation
            )
            for n in (1, 2)
        }
        exact = {n: absent_maps(frozen, variant) for n, variant in drawn.items()}
        for n in drawn:
            raw = live.raw[n, live.tokens.index(record.token)]
            began = time.process_time()
            features = live.run([raw])[0]
            cost["backbones of a row, s"].append(time.process_time() - began)
            cost["of them for absent cameras, s"].append(exact[n][1]["camera"])
            cost["of them for an absent LiDAR, s"].append(exact[n][1]["lidar"])
            cost["bytes of a row's maps"].append(compressed_bytes(features.maps, len(CAMERAS)))
            cost["bytes of absent maps"].append(compressed_bytes(exact[n][0], 1))
            frame = replace(
                features.frame,
                annotations=trainable_annotations(features.frame.annotations, preset.grid),
            )
            features = replace(features, frame=frame)
            for absent in ABSENT:
                sources = {
                    "present": features,
                    "recorded": without(features, null, absent),
                    "exact": without(features, replace(null, maps=exact[n][0]), absent),
                    "next variant": without(features, replace(null, maps=exact[3 - n][0]), absent),
                }
                add_comparison(by_condition[condition(absent)], detector, sources)
    return {
        "preset": preset_name,
        "head": "seeded" if (head or checkpoint) is None else "trained",
        "samples": len(records),
        "outputs": {
            name: {key: float(np.mean(values)) for key, values in figures.items()}
            for name, figures in by_condition.items()
        },
        "cost": {key: float(np.mean(values)) for key, values in cost.items()},
    }


def main() -> None:
    parser = command_parser(__doc__)
    parser.add_argument("root", type=Path, help="folder of nuScenes")
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--checkpoint", type=Path, help="CMT checkpoint")
    parser.add_argument("--head", type=Path, help="run of train-stage2")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    document = measure(args.root, args.preset, args.head, args.samples, args.checkpoint)
    text = json.dumps(document, indent=1)
    print(text)
    if args.json is not None:
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
