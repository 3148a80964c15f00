"""What a store composes of two variants is what augmenting a sample this way at once gives."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from shared.config.augmentation import Augmentation, VariantDraws, official_augmentation
from shared.config.preset import Preset
from shared.config.preset_catalogue import r50_800x320, tiny, vov_1600x640
from shared.data.combined_variants import combined_img_from_lidar
from stage1_extract.nuscenes.nuscenes_tables import read_tables
from stage1_extract.nuscenes.records import SampleRecord
from stage1_extract.nuscenes.transforms import Matrix
from stage1_extract.parity.parity_tolerances import COMPOSED
from stage1_extract.preprocessing.images import img_from_lidar
from stage1_extract.preprocessing.raw_frames import RawFrames
from stage1_extract.preprocessing.variant import draw_variant
from stage1_extract.preprocessing.variant_geometry import ego_from_augmented, img_from_augmented

SEEDS = 50
ROUNDING = 1e-14  # of the largest entry; measured 1.3e-15


@pytest.fixture(scope="module")
def records(synthetic_root: Path) -> list[SampleRecord]:
    return list(read_tables(synthetic_root, "v1.0-mini", "mini_train"))


def largest_error(record: SampleRecord, preset: Preset, seed: int, numbers: list[int]) -> float:
    """Return the largest error of composing images of one variant and LiDAR of another."""
    assert preset.camera is not None
    images_of, lidar_of = (
        draw_variant(
            record.token,
            number,
            seed=seed,
            camera=preset.camera,
            augmentation=official_augmentation(preset),
        )
        for number in numbers
    )
    assert images_of.image is not None
    recorded: Matrix = np.stack(
        [img_from_lidar(view, images_of.image, preset.camera) for view in record.cameras]
    )
    at_once = img_from_augmented(recorded, replace(lidar_of, image=images_of.image))
    composed = combined_img_from_lidar(
        img_from_augmented(recorded, images_of),
        ego_from_augmented(record.ego_from_lidar, images_of),
        ego_from_augmented(record.ego_from_lidar, lidar_of),
    )
    largest = np.abs(at_once).max(axis=(-2, -1), keepdims=True)
    return float((np.abs(composed - at_once) / largest).max())


@pytest.mark.parametrize("preset", [r50_800x320(), vov_1600x640()], ids=lambda p: p.name)
@pytest.mark.parametrize("numbers", [[1, 2], [0, 1], [1, 0]])
def test_the_composed_projection_is_that_of_the_combined_sample(
    records: list[SampleRecord], preset: Preset, numbers: list[int]
) -> None:
    errors = [largest_error(record, preset, s, numbers) for record in records for s in range(SEEDS)]
    assert max(errors) < ROUNDING < COMPOSED.floor


@pytest.mark.real
@pytest.mark.parametrize("preset", [r50_800x320(), vov_1600x640()], ids=lambda p: p.name)
def test_the_composed_projection_is_right_for_real_calibrations(
    nuscenes_real: Path, preset: Preset
) -> None:
    records = read_tables(nuscenes_real, "v1.0-mini", "mini_val")
    errors = [largest_error(record, preset, 0, [1, 2]) for record in records]
    assert max(errors) < ROUNDING


def test_images_and_lidar_do_not_depend_on_the_variant_of_the_other(
    records: list[SampleRecord],
) -> None:
    frames = RawFrames(records, tiny(), VariantDraws(augmentation=Augmentation()))
    images_of, lidar_of = frames[1, 0], frames[2, 0]
    combined = frames.load(2, 0, 1)

    for sample in (images_of, lidar_of, combined):
        assert sample.images is not None
        assert sample.voxels is not None
    assert torch.equal(combined.images, images_of.images)  # type: ignore[arg-type]
    assert not torch.equal(combined.images, lidar_of.images)  # type: ignore[arg-type]
    for field in ("means", "coordinates"):
        ours = getattr(combined.voxels, field)
        assert torch.equal(ours, getattr(lidar_of.voxels, field))
    boxes = combined.frame.annotations.boxes_lidar
    np.testing.assert_array_equal(boxes, lidar_of.frame.annotations.boxes_lidar)
    np.testing.assert_array_equal(combined.frame.ego_from_lidar, lidar_of.frame.ego_from_lidar)


def test_a_box_stays_where_it_is_in_the_image(records: list[SampleRecord]) -> None:
    frames = RawFrames(records, tiny(), VariantDraws(augmentation=Augmentation()))
    in_images, combined = frames[1, 0].frame, frames.load(2, 0, 1).frame

    pixels = [
        np.einsum("vij,nj->vni", frame.img_from_lidar, np.column_stack([centres, ones]))
        for frame in (in_images, combined)
        for centres in [frame.annotations.boxes_lidar[:, :3].astype(np.float64)]
        for ones in [np.ones(len(centres))]
    ]

    is_ahead = pixels[0][..., 2] > 1  # (V, n), metres
    assert is_ahead.any()
    first, second = (p[..., :2][is_ahead] / p[..., 2:3][is_ahead] for p in pixels)
    np.testing.assert_allclose(first, second, atol=1e-2)  # boxes are float32
