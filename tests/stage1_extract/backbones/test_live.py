"""A live frame is augmented in everything, and loaded as its preset says.

What each piece does is tested where it is; here, that live frames have all of them.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from shared.config.augmentation import Augmentation, VariantDraws
from shared.config.preset import LidarBranch, Preset
from shared.config.preset_catalogue import tiny
from shared.errors import ConfigError
from stage1_extract.backbones.live import LiveFeatures, join_raw
from stage1_extract.extraction.null_sample import null_raw_frame
from stage1_extract.nuscenes.nuscenes_tables import read_tables
from stage1_extract.nuscenes.records import SampleRecord
from stage1_extract.preprocessing.conditioned_input import ConditionedInput
from stage1_extract.preprocessing.grid_mask import mask_stripes
from stage1_extract.preprocessing.images import look_up, normal_values, normalised
from stage1_extract.preprocessing.raw_frames import RawFrame, RawFrames
from stage1_extract.preprocessing.variant import Variant, draw_variant
from stage1_extract.preprocessing.voxels import GroupedPoints, Voxelizer

ALWAYS_MASKED = Augmentation(grid_mask_probability=1.0)
VARIANTS = (1, 2, 3, 4)
METRE = 2e-5  # of boxes in float32, 20 m away


@pytest.fixture(scope="module")
def records(synthetic_root: Path) -> list[SampleRecord]:
    return read_tables(synthetic_root, "v1.0-mini", "mini_train")


@pytest.fixture(scope="module")
def preset() -> Preset:
    return tiny()


def live(records: list[SampleRecord], preset: Preset, **changes: object) -> RawFrames:
    return RawFrames(records, preset, VariantDraws(augmentation=replace(ALWAYS_MASKED, **changes)))


def drawn(record: SampleRecord, number: int, preset: Preset, **changes: object) -> Variant:
    """Return the variant that a live frame has to be."""
    augmentation = replace(ALWAYS_MASKED, **changes)
    return draw_variant(
        record.token, number, seed=0, camera=preset.camera, augmentation=augmentation
    )


def moved(points_m: NDArray[np.float64], variant: Variant) -> NDArray[np.float64]:
    """Rotate, scale, shift and flip (n, 3) points, as `Variant` describes it."""
    cosine, sine = np.cos(variant.rotation_rad), np.sin(variant.rotation_rad)
    turn = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    signs = [-1 if variant.flip_x else 1, -1 if variant.flip_y else 1, 1]
    return (points_m @ turn.T * variant.scale + variant.translation_m) * signs


def homogeneous(points_m: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.column_stack([points_m, np.ones(len(points_m))])


@pytest.mark.parametrize("number", VARIANTS)
def test_a_moved_point_is_seen_at_the_pixel_where_the_image_shows_it(
    records: list[SampleRecord], preset: Preset, number: int
) -> None:
    record = records[0]
    variant = drawn(record, number, preset)
    assert variant.image is not None
    frame = live(records, preset)[number, 0].frame
    points_m = np.array([[9.0, 3.0, -1.0], [-7.0, 8.0, 0.5], [2.0, -15.0, 1.0]])

    for matrix, camera in zip(frame.img_from_lidar, record.cameras, strict=True):
        in_camera_m = (points_m - camera.translation_m) @ camera.rotation  # inverse of a rotation
        u, v, depth_m = (in_camera_m @ camera.intrinsics.T).T  # of the JPEG, times depth
        u = u * variant.image.resize - variant.image.left_px * depth_m
        v = v * variant.image.resize - variant.image.top_px * depth_m
        if variant.image.flip:
            u = preset.camera.width_px * depth_m - u  # type: ignore[union-attr]
        ours = homogeneous(moved(points_m, variant)) @ matrix.T
        np.testing.assert_allclose(ours[:, :3], np.column_stack([u, v, depth_m]), rtol=1e-5)


@pytest.mark.parametrize("number", VARIANTS)
def test_boxes_move_and_stay_where_they_are_in_the_world(
    records: list[SampleRecord], preset: Preset, number: int
) -> None:
    record, variant = records[0], drawn(records[0], number, preset)
    frame = live(records, preset)[number, 0].frame
    before_m = record.annotations.boxes_lidar[:, :3].astype(np.float64)
    after_m = frame.annotations.boxes_lidar[:, :3].astype(np.float64)

    np.testing.assert_allclose(after_m, moved(before_m, variant), atol=METRE)
    assert np.abs(after_m - before_m).max() > 0.1
    np.testing.assert_allclose(
        homogeneous(after_m) @ frame.ego_from_lidar.T,
        homogeneous(before_m) @ record.ego_from_lidar.T,
        atol=METRE,
    )
    np.testing.assert_array_equal(frame.global_from_ego, record.global_from_ego)
    assert frame.annotations.labels.tolist() == record.annotations.labels.tolist()
    assert (frame.token, frame.scene, frame.timestamp_us, frame.variant) == (
        *(record.token, record.scene, record.timestamp_us),
        number,
    )


@pytest.fixture
def clouds(monkeypatch: pytest.MonkeyPatch) -> list[NDArray[np.float32]]:
    """Points (P, 5) of all voxels, in order, of every frame that a test loads."""
    loaded = list[NDArray[np.float32]]()
    group = Voxelizer._grouped

    def noticed(voxelizer: Voxelizer, points: torch.Tensor, limit: int | None) -> GroupedPoints:
        grouped = group(voxelizer, points, limit)
        voxels = zip(grouped.points.numpy(), grouped.counts.numpy(), strict=True)
        loaded.append(np.concatenate([own[:count] for own, count in voxels]))
        return grouped

    monkeypatch.setattr(Voxelizer, "_grouped", noticed)
    return loaded


def test_points_move_as_the_boxes_do(
    records: list[SampleRecord], preset: Preset, clouds: list[NDArray[np.float32]]
) -> None:
    """Without a random order the voxels of both have the same points, as far as both are inside."""
    assert preset.lidar is not None
    roomy = replace(
        preset,
        grid=replace(preset.grid, point_range_m=(-90.0, -90.0, -9.0, 90.0, 90.0, 9.0)),
        lidar=replace(preset.lidar, max_points_per_voxel=200, sweeps=0),
    )
    frames = live(records, roomy, shuffle_points=False)
    variant = drawn(records[0], 2, preset, shuffle_points=False)

    _ = frames[0, 0], frames[2, 0]

    recorded, augmented = clouds
    expected = moved(recorded[:, :3].astype(np.float64), variant)
    for axis in range(3):
        np.testing.assert_allclose(
            np.sort(augmented[:, axis]), np.sort(expected[:, axis]), atol=METRE
        )


def network_input(frame: RawFrame, preset: Preset, device: str = "cpu") -> torch.Tensor:
    """Return the images (V, 3, H, W) that the image backbone gets on a device."""
    batch = join_raw([frame])
    assert batch.images is not None
    assert preset.camera is not None
    images = normalised(batch.images.to(device), preset.camera, batch.stripes)
    assert images.device.type == device
    return images[0].cpu()


@pytest.mark.parametrize("number", VARIANTS)
def test_images_are_transformed_and_masked_alike_in_all_cameras(
    records: list[SampleRecord], preset: Preset, number: int
) -> None:
    variant = drawn(records[0], number, preset)
    assert variant.grid_mask is not None
    masked = live(records, preset)[number, 0]
    unmasked = live(records, preset, grid_mask_probability=0.0)[number, 0]
    bare = unmasked.images
    recorded = live(records, preset)[0, 0].images
    assert bare is not None
    assert recorded is not None

    rows, columns = np.split(mask_stripes(variant.grid_mask, *bare.shape[-2:]), [bare.shape[-2]])
    pixels = torch.from_numpy(rows[:, None] | columns)
    assert 0 < pixels.float().mean() < 1
    assert unmasked.stripes is None
    assert torch.equal(network_input(masked, preset), network_input(unmasked, preset) * pixels)
    assert not torch.equal(bare, recorded)
    if variant.image is not None and variant.image.flip:
        still = replace(variant.image, flip=False)
        assert still != variant.image
        flipless = live(records, preset, grid_mask_probability=0.0, image_flip_probability=0.0)
        assert torch.equal(flipless[number, 0].images.flip(-1), bare)  # type: ignore[union-attr]


def test_a_batch_has_the_mask_of_each_of_its_samples(
    records: list[SampleRecord], preset: Preset
) -> None:
    frames = live(records, preset)
    raw = [frames[0, 0], frames[1, 0], frames[2, 1]]
    batch = join_raw(raw, size=4)
    assert batch.images is not None
    assert batch.stripes is not None
    assert preset.camera is not None
    together = normalised(batch.images, preset.camera, batch.stripes)
    for place, sample in enumerate([*raw, raw[-1]]):
        assert torch.equal(together[place], network_input(sample, preset))
    assert join_raw([frames[0, 0]] * 2).stripes is None


def test_what_runs_through_the_backbones_is_masked(
    records: list[SampleRecord], preset: Preset
) -> None:
    class Backbones:
        device = torch.device("cpu")

        def __init__(self) -> None:
            self.preset = preset
            self.images = torch.empty(0)

        def __call__(self, images: torch.Tensor, _: object) -> dict[str, torch.Tensor]:
            self.images = images
            return {}

    backbones: Any = Backbones()
    sample = live(records, preset)[1, 0]
    assert LiveFeatures([], backbones).maps(join_raw([sample])) == {}
    assert torch.equal(backbones.images[0], network_input(sample, preset))


@pytest.mark.gpu
def test_images_are_the_same_on_a_gpu(records: list[SampleRecord], preset: Preset) -> None:
    for number in (0, *VARIANTS):
        frame = live(records, preset)[number, 0]
        on_gpu = network_input(frame, preset, "cuda").numpy()
        assert on_gpu.tobytes() == network_input(frame, preset).numpy().tobytes()


def test_a_gpu_looks_values_up_as_opencv_does(records: list[SampleRecord], preset: Preset) -> None:
    assert preset.camera is not None
    pixels = RawFrames(records, preset)[0, 0].images
    assert pixels is not None
    assert len(pixels.unique()) > 100
    images = torch.empty(pixels.shape)
    look_up(pixels, normal_values(preset.camera), out=images)
    assert torch.equal(images, normalised(pixels, preset.camera))


def test_a_batch_that_does_not_fit_into_the_device_is_an_error_with_a_remedy(
    preset: Preset,
) -> None:
    class Full:
        device = torch.device("cpu")

        def __init__(self) -> None:
            self.preset = preset

        def __call__(self, *_: object) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nSee ...")

    full: Any = Full()
    batch = join_raw([null_raw_frame(preset)], size=3)
    expected = r"a batch of 3 samples: CUDA out .* 2 GiB\. If other .* smaller --batch-size into"
    with pytest.raises(ConfigError, match=expected):
        LiveFeatures([], full).maps(batch)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("condition", ["missing-cam-front", "cameras-drop"])
def test_absent_cameras_are_black_and_have_no_holes_in_any_variant(
    records: list[SampleRecord], preset: Preset, condition: str, number: int
) -> None:
    conditioned = ConditionedInput(condition, records)
    draws = VariantDraws(augmentation=ALWAYS_MASKED)
    changed = network_input(RawFrames(records, preset, draws, conditioned)[number, 0], preset)
    recorded = network_input(live(records, preset)[number, 0], preset)
    black = network_input(null_raw_frame(preset), preset)
    lost = [view == 0 or condition == "cameras-drop" for view in range(len(black))]
    for view, is_lost in enumerate(lost):
        assert torch.equal(changed[view], black[view] if is_lost else recorded[view])
        assert not torch.equal(black[view], recorded[view])


def test_variant_0_is_the_sample_as_recorded(
    records: list[SampleRecord], preset: Preset, clouds: list[NDArray[np.float32]]
) -> None:
    with_variants, without = live(records, preset)[0, 1], RawFrames(records, preset)[0, 1]
    assert torch.equal(with_variants.images, without.images)  # type: ignore[arg-type]
    np.testing.assert_array_equal(*clouds)
    np.testing.assert_array_equal(without.frame.ego_from_lidar, records[1].ego_from_lidar)
    assert without.frame.annotations.boxes_lidar is records[1].annotations.boxes_lidar


POINTS = np.array([[0.4, -0.4, 0, 7, 0], [5, 0, 0, 8, 0], [0, 6, 0, 9, 0]], np.float32)
SWEEP_M = 20.0  # apart, so that every point has a voxel of its own


@pytest.fixture
def few_points(records: list[SampleRecord], tmp_path: Path) -> SampleRecord:
    """The record of a keyframe and two sweeps of three points each, one of them close."""
    record = next(record for record in records if len(record.sweeps) >= 2)
    files = [tmp_path / f"{i}.pcd.bin" for i in range(3)]
    for file in files:
        file.write_bytes(POINTS.tobytes())
    sweeps = tuple(
        replace(
            sweep,
            file=file,
            rotation=np.eye(3),
            translation_m=np.array([0.0, SWEEP_M * (1 - 2 * i), 0.0]),
        )
        for i, (file, sweep) in enumerate(zip(files[1:], record.sweeps, strict=False))
    )
    return replace(record, root=files[0].parent, lidar_file=files[0], sweeps=sweeps)


@pytest.mark.parametrize(
    ("changes", "has_sweeps", "points"),
    [
        ({}, True, 9),
        ({"sweeps": 1}, True, 6),
        ({"sweeps": 0}, True, 3),
        ({"drop_close_points": True}, True, 7),
        ({}, False, 3),
        ({"pad_without_sweeps": True, "sweeps": 2}, False, 9),
        ({"pad_without_sweeps": True, "sweeps": 2, "drop_close_points": True}, False, 7),
        ({"max_voxels": 4}, True, 4),
        ({"max_points_per_voxel": 1, "pad_without_sweeps": True}, False, 3),
    ],
)
def test_points_are_loaded_as_the_preset_says(
    few_points: SampleRecord,
    changes: dict[str, object],
    has_sweeps: bool,
    points: int,
    clouds: list[NDArray[np.float32]],
) -> None:
    preset = tiny()
    lidar: LidarBranch = replace(preset.lidar, **changes)  # type: ignore[arg-type, type-var]
    record = few_points if has_sweeps else replace(few_points, sweeps=())
    frames = RawFrames([record], replace(preset, camera=None, lidar=lidar))

    _ = frames[0, 0]

    assert [len(cloud) for cloud in clouds] == [points]


def test_a_preset_of_one_sensor_loads_no_other(records: list[SampleRecord]) -> None:
    preset = tiny()
    cameras, lidar = replace(preset, lidar=None), replace(preset, camera=None)
    assert RawFrames(records, cameras)[0, 0].voxels is None
    assert RawFrames(records, lidar)[0, 0].images is None
    assert RawFrames(records, lidar)[0, 0].frame.img_from_lidar.shape == (0, 4, 4)
