"""Our preprocessing of real frames gives the numbers of the official pipeline (golden sets P).

    pytest tests/upstream/test_preprocessing.py --golden-dir DIR --nuscenes-real DIR

The sets hold nuScenes pixels and points, so they and the frames stay outside the repository;
without them the tests are skipped. Every number comes from the JSON of the set.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from shared.config.classes import CAMERAS, CLASS_NAMES, OTHER_CLASS
from shared.config.preset import CameraBranch, LidarBranch, PointGrid
from shared.data.targets import trainable_annotations
from stage1_extract.nuscenes.info_files import read_infos
from stage1_extract.nuscenes.nuscenes_tables import read_tables
from stage1_extract.nuscenes.records import SampleRecord
from stage1_extract.nuscenes.transforms import camera_from_lidar
from stage1_extract.preprocessing.images import (
    decode_jpeg,
    identity_transform,
    img_from_lidar,
    load_images,
    normalised,
    projections,
    transform_pixels,
)
from stage1_extract.preprocessing.sweeps import load_points
from stage1_extract.preprocessing.voxels import Voxelizer, mean_points

pytestmark = pytest.mark.real

SWEEPS = 10
# A different BLAS moves the sensor transforms by up to 5e-13 m, times a focal length of 1,300 px.
MATRIX_TOLERANCE = 1e-9
# The mean of at most ten float32 numbers depends on the order of summation.
MEAN_TOLERANCE = 4e-6


@dataclass(frozen=True)
class Leg:
    """A sample of a set under a config: what the JSON and the arrays say about it."""

    name: str
    sample: dict[str, Any]
    config: dict[str, Any]
    numbers: dict[str, Any]
    record: SampleRecord
    camera: CameraBranch
    grid: PointGrid
    lidar: LidarBranch


class PreprocessingGolden:
    """A preprocessing set, its arrays, and our records of its frames."""

    def __init__(self, golden: Any, root: Path) -> None:
        self.document = golden.document
        with np.load(golden.path.with_suffix(".npz")) as stored:
            self.arrays = {key: stored[key] for key in stored.files}
        infos = root / self.document["env"]["ann_file"]
        if not infos.is_file():
            pytest.skip(f"{golden.path.name} was made from {infos}, which does not exist")
        records = read_infos(infos, root)
        self.records = {record.token: record for record in records}

    def samples(self) -> Iterator[tuple[str, dict[str, Any], SampleRecord]]:
        for token, sample in self.document["samples"].items():
            yield token[:8], sample, self.records[token]

    def legs(self) -> Iterator[Leg]:
        for short, sample, record in self.samples():
            for name, config in self.document["configs"].items():
                yield Leg(
                    name=f"{short}/{name}",
                    sample=sample,
                    config=config,
                    numbers=sample[name],
                    record=record,
                    camera=camera_of(config),
                    grid=grid_of(config),
                    lidar=lidar_of(config),
                )


def camera_of(config: dict[str, Any]) -> CameraBranch:
    augmentation, norm = config["ida_aug_conf"], config["img_norm_cfg"]
    assert not any(augmentation["bot_pct_lim"])
    assert not norm["to_rgb"]
    height_px, width_px = augmentation["final_dim"]
    return CameraBranch(
        backbone="resnet50",
        base_channels=64,
        height_px=height_px,
        width_px=width_px,
        raw_height_px=augmentation["H"],
        raw_width_px=augmentation["W"],
        resize_lim=tuple(augmentation["resize_lim"]),
        mean_bgr=tuple(norm["mean"]),
        std_bgr=tuple(norm["std"]),
    )


def grid_of(config: dict[str, Any]) -> PointGrid:
    return PointGrid(
        point_range_m=tuple(config["point_cloud_range"]),
        voxel_m=tuple(config["voxel_size"]),
        sparse_shape=tuple(config["sparse_shape_zyx"]),
    )


def lidar_of(config: dict[str, Any]) -> LidarBranch:
    return LidarBranch(
        max_points_per_voxel=config["max_num_points"],
        max_voxels=config["max_voxels_train_test"][1],
        encoder_channels=((16,), (16,)),
        encoder_out_channels=16,
        second_channels=(16, 16),
        second_layers=(1, 1),
    )


@pytest.fixture(scope="module")
def golden(preprocessing_golden: Any, nuscenes_real: Path) -> PreprocessingGolden:
    return PreprocessingGolden(preprocessing_golden, nuscenes_real)


def sha256(values: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def test_merged_points_have_the_official_bytes(golden: PreprocessingGolden) -> None:
    for short, sample, record in golden.samples():
        expected = sample["points"]
        points = load_points(record, SWEEPS)
        assert points.dtype == np.float32
        assert len(points) == expected["count"], short
        assert record.relative(record.lidar_file) == expected["lidar_path"]
        assert [record.relative(s.file) for s in record.sweeps] == [
            s["path"] for s in expected["sweeps"]
        ]
        lags = [s["lag_s_float32"] for s in expected["sweeps"]]
        assert [record.lag_s(s) for s in record.sweeps] == lags, short
        np.testing.assert_array_equal(points[::50], golden.arrays[f"{short}/points/every50"])
        unique, counts = np.unique(points[:, 4], return_counts=True)
        np.testing.assert_array_equal(unique, golden.arrays[f"{short}/points/time_lag_unique"])
        np.testing.assert_array_equal(counts, golden.arrays[f"{short}/points/time_lag_count"])
        assert sha256(points) == expected["sha256_float32"], short


def test_any_number_of_sweeps_merges_as_official(golden: PreprocessingGolden) -> None:
    """The first ten of a longer list, in order: official `test_mode`.

    Not checked: the choice from more than ten sweeps without `test_mode`, which is random; no
    official config with official info files leads there.
    """
    made_up = golden.document["synthetic_sweeps"]
    record = golden.records[made_up["sample"]]
    (first, *_) = record.sweeps
    checked = 0
    for case in made_up["cases"]:
        count, options = case["n_sweeps"], case["kwargs"]
        if count > SWEEPS and not options.get("test_mode", False):
            continue
        sweeps = tuple(
            replace(first, timestamp_us=record.timestamp_us - 50_000 * (j + 1))
            for j in range(count)
        )
        points = load_points(
            replace(record, sweeps=sweeps),
            SWEEPS,
            drop_close_points=options.get("remove_close", False),
            pad_without_sweeps=options.get("pad_empty_sweeps", False),
        )
        assert len(points) == case["count"], case
        assert sha256(points) == case["sha256_float32"], case
        checked += 1
    assert checked >= 3


def test_projections_of_the_recorded_images_are_the_official_ones(
    golden: PreprocessingGolden,
) -> None:
    for short, sample, record in golden.samples():
        assert sample["cams"] == list(CAMERAS) == [camera.name for camera in record.cameras]
        height_px, width_px = sample["ori_shape"][:2]
        for v, camera in enumerate(record.cameras):
            assert record.relative(camera.file) == sample["img_paths"][v]
            uncropped = CameraBranch(
                backbone="resnet50",
                base_channels=64,
                height_px=height_px // 32 * 32,
                width_px=width_px // 32 * 32,
                resize_lim=(1, 1),
            )
            as_recorded = replace(identity_transform(uncropped), resize=1.0, left_px=0, top_px=0)
            ours = {
                "lidar2cam": camera_from_lidar(camera.rotation, camera.translation_m),
                "lidar2img": img_from_lidar(camera, as_recorded, uncropped),
            }
            for name, matrix in ours.items():
                np.testing.assert_allclose(
                    matrix,
                    golden.arrays[f"{short}/raw/{name}"][v],
                    rtol=MATRIX_TOLERANCE,
                    atol=MATRIX_TOLERANCE,
                )


def test_jpegs_decode_to_the_official_pixels(golden: PreprocessingGolden) -> None:
    """If only this fails, the JPEG decoder differs (libjpeg-turbo 3.0.3 in opencv 4.11)."""
    for short, sample, record in golden.samples():
        height_px, width_px = sample["ori_shape"][:2]
        for v, camera in enumerate(record.cameras):
            file_sha256 = hashlib.sha256(camera.file.read_bytes()).hexdigest()
            assert file_sha256 == sample["img_file_sha256"][v], camera.file
            pixels = decode_jpeg(camera.file, height_px, width_px)
            patch = golden.arrays[f"{short}/decoded_bgr_patch"][v]
            np.testing.assert_array_equal(pixels[400:432, 784:816], patch)
            assert sha256(pixels) == sample["decoded_bgr_uint8_sha256"][v], camera.file


def network_input(record: SampleRecord, camera: CameraBranch) -> NDArray[np.float32]:
    """Return (V, 3, H, W) float32, as the image backbone gets it."""
    pixels, _ = load_images(record, camera)
    return normalised(torch.from_numpy(pixels), camera).numpy()


def test_images_have_the_official_bytes(golden: PreprocessingGolden) -> None:
    for leg in golden.legs():
        expected = leg.numbers["img"]
        images = network_input(leg.record, leg.camera)
        assert images.shape[1:] == (3, *leg.numbers["img_shape"][0][:2])
        rows_columns_last = images.transpose(0, 2, 3, 1)
        y, x = expected["patch_y0x0"]
        patch = rows_columns_last[:, y : y + 32, x : x + 32]
        np.testing.assert_array_equal(patch, golden.arrays[f"{leg.name}/img_patch32"])
        np.testing.assert_array_equal(
            rows_columns_last[:, ::8, ::8], golden.arrays[f"{leg.name}/img_stride8"]
        )
        assert [sha256(image) for image in images] == expected["sha256_per_camera_CHW"], leg.name
        assert sha256(images) == expected["sha256_float32_NCHW"], leg.name
        assert sha256(rows_columns_last) == expected["sha256_float32_NHWC"], leg.name


def test_resize_and_crop_are_the_official_ones(golden: PreprocessingGolden) -> None:
    for leg in golden.legs():
        expected = leg.numbers["rcf"]
        transform = identity_transform(leg.camera)
        assert transform.resize == expected["resize"]
        assert [transform.left_px, transform.top_px] == expected["crop_x0y0x1y1"][:2]
        assert transform.flip is expected["flip"] is False
        assert expected["rotate"] == 0
        pixels = [
            transform_pixels(
                decode_jpeg(camera.file, leg.camera.raw_height_px, leg.camera.raw_width_px),
                transform,
                leg.camera,
            )
            for camera in leg.record.cameras
        ]
        digest = leg.numbers["img"]["sha256_uint8_after_resize_crop_NHWC"]
        assert sha256(np.stack(pixels)) == digest, leg.name


def test_projections_of_the_networks_input_are_the_official_ones(
    golden: PreprocessingGolden,
) -> None:
    for leg in golden.legs():
        _, matrices = load_images(leg.record, leg.camera)
        assert matrices.dtype == np.float64
        expected = golden.arrays[f"{leg.name}/lidar2img"]
        np.testing.assert_allclose(matrices, expected, rtol=MATRIX_TOLERANCE, atol=MATRIX_TOLERANCE)


def test_voxels_have_the_official_bytes(golden: PreprocessingGolden) -> None:
    for leg in golden.legs():
        expected = leg.numbers["vox"]
        voxelizer = Voxelizer(leg.grid, leg.lidar)
        voxels = voxelizer.group(torch.from_numpy(load_points(leg.record, SWEEPS)))
        coordinates, counts = voxels.coordinates.numpy(), voxels.counts.numpy()
        assert len(counts) == expected["n_voxels"], leg.name
        assert list(leg.grid.range_voxels) == leg.config["grid_size_zyx"]
        np.testing.assert_array_equal(
            coordinates, golden.arrays[f"{leg.name}/vox_coors_zyx"].astype(np.int32)
        )
        np.testing.assert_array_equal(counts, golden.arrays[f"{leg.name}/vox_num_points"])
        assert sha256(coordinates) == expected["sha256_coors_int32"], leg.name
        assert sha256(counts) == expected["sha256_num_points_int32"], leg.name
        assert sha256(voxels.points.numpy()) == expected["sha256_voxels_float32"], leg.name
        np.testing.assert_allclose(
            mean_points(voxels)[::10].numpy(),
            golden.arrays[f"{leg.name}/vfe_every10"],
            rtol=MEAN_TOLERANCE,
            atol=MEAN_TOLERANCE,
        )
        beyond = (coordinates >= np.array(leg.grid.sparse_shape)).any(axis=1)
        assert int(beyond.sum()) == expected["n_index_ge_sparse_shape"], leg.name


def test_boxes_have_the_official_bytes(golden: PreprocessingGolden) -> None:
    for short, sample, record in golden.samples():
        ours = record.annotations
        stored = {
            key.removeprefix(f"{short}/gt/"): values
            for key, values in golden.arrays.items()
            if key.startswith(f"{short}/gt/")
        }
        np.testing.assert_array_equal(ours.lidar_points, stored["info_num_lidar_pts"])
        np.testing.assert_array_equal(ours.radar_points, stored["info_num_radar_pts"])
        unknown = np.isnan(ours.boxes_lidar[:, 7:]).any(axis=1)
        np.testing.assert_array_equal(unknown, stored["info_nan_velocity"])
        labels = [CLASS_NAMES.index(n) if n in CLASS_NAMES else -1 for n in stored["info_names"]]
        assert ours.labels.tolist() == labels
        keep = ours.lidar_points > 0
        np.testing.assert_array_equal(keep, stored["info_keep_mask"])
        with_points = ours.boxes_lidar[keep].copy()
        with_points[:, 7:] = np.nan_to_num(with_points[:, 7:])
        np.testing.assert_array_equal(with_points, stored["ann_boxes_gravity"])
        np.testing.assert_array_equal(ours.labels[keep], stored["ann_labels"])
        assert int((ours.labels[keep] == OTHER_CLASS).sum()) == sample["gt"]["n_label_minus1"]


def test_trainable_boxes_have_the_official_bytes(golden: PreprocessingGolden) -> None:
    for leg in golden.legs():
        short = leg.name.partition("/")[0]
        ours = trainable_annotations(leg.record.annotations, leg.grid)
        np.testing.assert_array_equal(
            ours.boxes_lidar, golden.arrays[f"{short}/gt/train_boxes_gravity"]
        )
        np.testing.assert_array_equal(ours.labels, golden.arrays[f"{short}/gt/train_labels"])


def test_the_nuscenes_tables_give_the_same_points_and_images(
    golden: PreprocessingGolden, nuscenes_real: Path
) -> None:
    if not (nuscenes_real / "v1.0-mini").is_dir():
        pytest.skip(f"no nuScenes tables in {nuscenes_real}")
    records = read_tables(nuscenes_real, "v1.0-mini", "mini_train+mini_val", existing_only=True)
    from_tables = {record.token: record for record in records}
    for leg in golden.legs():
        if leg.record.token not in from_tables:
            continue
        record = from_tables[leg.record.token]
        assert sha256(load_points(record, SWEEPS)) == leg.sample["points"]["sha256_float32"]
        images = network_input(record, leg.camera)
        assert sha256(images) == leg.numbers["img"]["sha256_float32_NCHW"], leg.name
        # The rebuilt tables hold one frame's poses in float32; see the folder's README.
        matrices, expected = projections(record, leg.camera), golden.arrays[f"{leg.name}/lidar2img"]
        np.testing.assert_allclose(matrices, expected, rtol=1e-5, atol=1e-3)


def test_opencv_resizes_by_half_as_the_golden_did() -> None:
    """At exactly one half OpenCV takes the rounded mean of 2 x 2 pixels, not an interpolation."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 10, 3), dtype=np.uint8)
    wide = pixels.astype(np.int32)
    mean = (wide[::2, ::2] + wide[1::2, ::2] + wide[::2, 1::2] + wide[1::2, 1::2] + 2) >> 2
    np.testing.assert_array_equal(cv2.resize(pixels, (5, 3)), mean)
