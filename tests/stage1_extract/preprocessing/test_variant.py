"""A variant is drawn only from (seed, token, variant), within the official ranges."""

import hashlib
import itertools
import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import pytest

from shared.config.augmentation import Augmentation, official_augmentation
from shared.config.preset import CameraBranch
from shared.config.preset_catalogue import camera_vov_1600x640, lidar_voxel0075, r50_800x320
from shared.errors import ConfigError
from stage1_extract.preprocessing.images import ImageTransform, identity_transform
from stage1_extract.preprocessing.variant import Variant, draw_variant

CAMERA = r50_800x320().camera
OFFICIAL = Augmentation()
TOKEN = "3e8750f331d7499e9b5123e9eb70f2e2"
SIGMAS = 5  # a mean more than this many of its deviations off is not chance
DRAWS = 1000


def draw(
    token: str = TOKEN,
    variant: int = 1,
    seed: int = 0,
    *,
    camera: CameraBranch | None = CAMERA,
    augmentation: Augmentation = OFFICIAL,
) -> Variant:
    return draw_variant(token, variant, seed=seed, camera=camera, augmentation=augmentation)


@pytest.fixture(scope="module")
def thousand() -> list[Variant]:
    return [draw(f"{n:032x}", 1 + n % 7) for n in range(DRAWS)]


def test_variant_0_is_the_sample_as_recorded() -> None:
    assert draw(variant=0) == Variant(image=identity_transform(CAMERA))
    assert draw(variant=0, camera=None) == Variant()
    assert Variant().keeps_geometry


@pytest.mark.parametrize(
    "moved",
    [
        Variant(rotation_rad=0.1),
        Variant(scale=1.1),
        Variant(translation_m=(0.0, 0.0, 0.1)),
        Variant(flip_x=True),
        Variant(flip_y=True),
    ],
)
def test_each_step_of_the_geometry_counts(moved: Variant) -> None:
    assert not moved.keeps_geometry


def test_a_variant_does_not_depend_on_what_was_drawn_before() -> None:
    wanted = list(itertools.product((TOKEN, "abc"), (0, 1, 2), (0, 7)))
    forwards = {which: draw(*which) for which in wanted}
    backwards = {which: draw(*which) for which in reversed(wanted)}
    assert forwards == backwards


def test_a_different_process_draws_the_same_variant() -> None:
    source = (
        "from shared.config.augmentation import Augmentation; "
        "from shared.config.preset_catalogue import r50_800x320; "
        "from stage1_extract.preprocessing.variant import draw_variant; "
        f"print(draw_variant({TOKEN!r}, 3, seed=5, camera=r50_800x320().camera, "
        "augmentation=Augmentation()))"
    )
    process = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, check=True, timeout=120
    )
    assert process.stdout.decode().strip() == repr(draw(TOKEN, 3, 5))


@pytest.mark.parametrize("which", [("abc", 1, 0), (TOKEN, 2, 0), (TOKEN, 1, 1), (TOKEN, 10, 1)])
def test_a_different_token_number_or_seed_gives_a_different_variant(
    which: tuple[str, int, int],
) -> None:
    first, second = draw(), draw(*which)
    assert first.rotation_rad != second.rotation_rad
    assert first.scale != second.scale
    assert first.translation_m != second.translation_m
    assert first.image != second.image
    assert first.points_order_seed != second.points_order_seed


def test_the_first_two_numbers_of_pcg64_are_rotation_and_scale() -> None:
    """Computed from the generator's bits, so that no change of NumPy goes unnoticed."""
    digest = hashlib.sha256(b'[7, "abc", 2]').digest()
    bits = np.random.PCG64(int.from_bytes(digest, "big")).random_raw(2)
    first, second = (int(word >> np.uint64(11)) / 2**53 for word in bits)
    variant = draw("abc", 2, 7)
    assert variant.rotation_rad == np.float32(-0.785 + 1.57 * first)
    assert variant.scale == np.float32(0.9 + (1.1 - 0.9) * second)


def test_geometry_stays_within_its_ranges(thousand: list[Variant]) -> None:
    angles = np.array([variant.rotation_rad for variant in thousand])
    scales = np.array([variant.scale for variant in thousand])
    shifts_m = np.array([variant.translation_m for variant in thousand])
    tolerance = 1e-7  # of rounding to float32
    assert np.abs(angles).max() <= 0.785 + tolerance
    assert scales.min() >= 0.9 - tolerance
    assert scales.max() <= 1.1 + tolerance
    root = np.sqrt(DRAWS)
    assert abs(angles.mean()) < SIGMAS * 0.785 / np.sqrt(3) / root
    assert abs(scales.mean() - 1) < SIGMAS * 0.1 / np.sqrt(3) / root
    assert np.abs(shifts_m.mean(axis=0)).max() < SIGMAS * 0.5 / root
    assert np.abs(shifts_m.std(axis=0) - 0.5).max() < SIGMAS * 0.5 / np.sqrt(2) / root
    assert np.abs(np.corrcoef(np.column_stack([angles, scales, shifts_m]).T) - np.eye(5)).max() < (
        SIGMAS / root
    )


def test_flips_and_masks_are_as_frequent_as_they_should(thousand: list[Variant]) -> None:
    shares = {
        0.5: [
            [variant.flip_x for variant in thousand],
            [variant.flip_y for variant in thousand],
            [variant.flip_x == variant.flip_y for variant in thousand],
            [variant.image.flip for variant in thousand],
        ],
        0.7: [[variant.grid_mask is not None for variant in thousand]],
    }
    for probability, series in shares.items():
        deviation = np.sqrt(probability * (1 - probability) / DRAWS)
        for outcomes in series:
            assert abs(np.mean(outcomes) - probability) < SIGMAS * deviation


def test_images_are_cropped_within_the_resized_image(thousand: list[Variant]) -> None:
    for variant in thousand:
        image = variant.image
        assert 0.47 <= image.resize <= 0.625
        assert image.top_px == int(900 * image.resize) - 320
        assert 0 <= image.left_px <= max(0, int(1600 * image.resize) - 800)
    assert max(variant.image.left_px for variant in thousand) > 150  # of 200


def test_masks_fit_the_image(thousand: list[Variant]) -> None:
    masks = [variant.grid_mask for variant in thousand if variant.grid_mask is not None]
    for mask in masks:
        assert 2 <= mask.period_px <= 319
        assert mask.stripe_px == max(1, min(int(mask.period_px / 2 + 0.5), mask.period_px - 1))
        assert 0 <= mask.row_offset_px < mask.period_px
        assert 0 <= mask.column_offset_px < mask.period_px
    periods = [mask.period_px for mask in masks]
    assert min(periods) < 10
    assert max(periods) > 310


def test_a_mask_keeps_at_least_a_pixel_of_each_period_and_masks_out_at_least_one() -> None:
    for ratio, stripe_px in ((0.001, lambda _: 1), (0.999, lambda period_px: period_px - 1)):
        always = Augmentation(grid_mask_probability=1.0, grid_mask_ratio=ratio)
        for variant in range(1, 20):
            mask = draw(variant=variant, augmentation=always).grid_mask
            assert mask.stripe_px == stripe_px(mask.period_px)


def test_a_resized_image_narrower_than_the_input_begins_at_its_left() -> None:
    narrow = replace(CAMERA, resize_lim=(0.47, 0.47))
    for variant in range(1, 9):
        image = draw(variant=variant, camera=narrow).image
        assert replace(image, flip=False) == ImageTransform(resize=0.47, left_px=0, top_px=103)


def test_a_different_range_changes_only_what_it_concerns() -> None:
    upright = draw(augmentation=Augmentation(rotation_rad=(0.0, 0.0)))
    assert upright == replace(draw(), rotation_rad=0.0)
    still = draw(augmentation=Augmentation(translation_std_m=0.0))
    assert still == replace(draw(), translation_m=(0.0, 0.0, 0.0))
    in_order = draw(augmentation=Augmentation(shuffle_points=False))
    assert in_order == replace(draw(), points_order_seed=None)


def test_without_cameras_the_geometry_is_the_same_and_there_are_no_images() -> None:
    assert draw(camera=None) == replace(draw(), image=None, grid_mask=None)


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_what_is_impossible_never_happens_and_what_is_certain_always(probability: float) -> None:
    augmentation = Augmentation(
        flip_x_probability=probability,
        flip_y_probability=probability,
        image_flip_probability=probability,
        grid_mask_probability=probability,
    )
    for variant in range(1, 50):
        drawn = draw(variant=variant, augmentation=augmentation)
        choices = {drawn.flip_x, drawn.flip_y, drawn.image.flip, drawn.grid_mask is not None}
        assert choices == {bool(probability)}


def test_the_official_augmentation_depends_on_the_sensors() -> None:
    assert official_augmentation(r50_800x320()) == Augmentation()
    assert official_augmentation(lidar_voxel0075()) == Augmentation()
    cameras_only = official_augmentation(camera_vov_1600x640())
    variant = draw(camera=camera_vov_1600x640().camera, augmentation=cameras_only)
    assert cameras_only.rotation_rad == (-0.3925, 0.3925)
    assert cameras_only.scale == (0.95, 1.05)
    assert (Augmentation().max_voxels, cameras_only.max_voxels) == (120_000, None)
    plain = replace(variant, rotation_rad=0.0, scale=1.0, image=None)
    assert plain == Variant()  # no shift, no flip of the scene, no mask, no order
    assert variant.image is not None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rotation_rad": (0.1, -0.1)}, r"rotation_rad is \(0.1, -0.1\); give \(least, largest\)"),
        ({"scale": (0.0, 1.0)}, r"scale begins at 0.0; it must be above 0"),
        ({"scale": (0.9, float("nan"))}, r"scale is \(0.9, nan\)"),
        ({"translation_std_m": -0.5}, r"translation_std_m is -0.5; it must be 0 or more"),
        ({"flip_x_probability": 1.5}, r"flip_x_probability is 1.5, not within 0 and 1"),
        ({"grid_mask_probability": float("nan")}, r"grid_mask_probability is nan"),
        ({"max_voxels": 0}, r"max_voxels is 0; it must be above 0"),
        ({"grid_mask_ratio": 1.0}, r"grid_mask_ratio is 1.0, not between 0 and 1"),
    ],
)
def test_an_impossible_augmentation_is_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Augmentation(**wrong)


def test_every_probability_is_checked() -> None:
    names = [field.name for field in fields(Augmentation) if field.name.endswith("_probability")]
    assert len(names) == 4
    for name in names:
        with pytest.raises(ConfigError, match=f"{name} is -0.1"):
            Augmentation(**{name: -0.1})
