"""Brightness and darkness are computed as published, pixel by pixel."""

import colorsys

import numpy as np
import pytest
from numpy.typing import NDArray

from stage1_extract.conditions.camera.exposure import brighten, darken, noisy_distribution
from stage1_extract.conditions.draw import Draw

DARKNESS = [(0.6, 250, 0.008), (0.4, 120, 0.018), (0.3, 50, 0.026)]


def noise_image(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)


@pytest.mark.parametrize(
    ("tenths", "pixel", "bright"),
    [
        (5, [0, 50, 100], [0, 113, 227]),  # v 100 to 227.5: the channels times 2.275, truncated
        (6, [0, 50, 100], [0, 126, 253]),  # v 100 to 253
        (7, [0, 50, 100], [0, 127, 255]),  # v 278.5 is clipped to 255
        (5, [0, 0, 0], [127, 127, 127]),  # black becomes grey
        (7, [255, 255, 255], [255, 255, 255]),
    ],
)
def test_brightness_scales_the_channels_with_the_value(
    tenths: int, pixel: list[int], bright: list[int]
) -> None:
    assert brighten(np.array([[pixel]], np.uint8), tenths).tolist() == [[bright]]


@pytest.mark.parametrize("tenths", [5, 6, 7])
def test_the_table_is_the_way_through_hsv(tenths: int) -> None:
    """Of Python's own conversion, which knows nothing of ours; its rounding errs by a level."""
    image = noise_image(20, 30)
    bright = brighten(image, tenths)
    for pixel, changed in zip(image.reshape(-1, 3), bright.reshape(-1, 3), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*(pixel / 255).tolist())
        raised = min(value + tenths / 10, 1)
        expected = np.array(colorsys.hsv_to_rgb(hue, saturation, raised)) * 255
        assert (np.abs(changed - np.floor(expected)) <= 1).all()
        assert (changed <= expected + 1e-6).all()


def published_darkness(
    image: NDArray[np.uint8], brightest: float, photons: int, noise: float
) -> NDArray[np.uint8]:
    """The readable twin: Poisson and normal numbers for every value."""
    generator = np.random.default_rng(1)
    span = (image - image.min()) / float(image.max() - image.min())
    counts = generator.poisson(span**2 * brightest * photons)
    values = np.minimum(counts / photons, 1) + generator.normal(0, noise, image.shape)
    return np.trunc(np.clip(values, 0, 1) * 255).astype(np.uint8)


@pytest.mark.parametrize(("brightest", "photons", "noise"), DARKNESS)
@pytest.mark.parametrize("level", [10, 60, 128, 255])
def test_dark_levels_are_distributed_as_by_poisson_and_normal_numbers(
    brightest: float, photons: int, noise: float, level: int
) -> None:
    image = np.full((300, 300, 3), level, np.uint8)
    image[0, :2] = (0, 0, 0), (255, 255, 255)
    fast = darken(image, Draw(0, "dark", "t", "c"), brightest, photons, noise)[1:]
    slow = published_darkness(image, brightest, photons, noise)[1:]
    error = slow.std() / np.sqrt(slow.size)
    assert abs(float(fast.mean()) - float(slow.mean())) < 6 * error + 0.01
    assert fast.std() == pytest.approx(slow.std(), rel=0.02)
    shares = [
        np.bincount(values.reshape(-1), minlength=256) / values.size for values in (fast, slow)
    ]
    assert np.abs(np.cumsum(shares[0]) - np.cumsum(shares[1])).max() < 0.01


def test_a_distribution_ends_at_1_and_its_mean_is_the_light_that_is_left() -> None:
    ends = noisy_distribution(np.array([0.2]), 250, 1e-9)[0]
    assert ends[-1] == pytest.approx(1, abs=1e-12)
    mean = (np.diff(ends, prepend=0) * np.arange(256)).sum()
    assert mean == pytest.approx(0.2 * 255 - 0.5, abs=0.1)  # truncation takes half a level


def test_dark_ranges_from_black_to_the_brightest_level_of_the_image() -> None:
    image = np.array([[[50, 50, 50], [150, 150, 150], [250, 250, 250]]], np.uint8).repeat(500, 0)
    dark = darken(image, Draw(0, "dark", "t", "c"), 0.6, 250, 0.008).mean(axis=(0, 2))
    np.testing.assert_allclose(dark, [0.4, 0.25 * 0.6 * 255 - 0.5, 0.6 * 255 - 0.5], atol=0.6)


def test_an_image_of_a_single_colour_becomes_dark_not_nan() -> None:
    dark = darken(np.full((4, 5, 3), 77, np.uint8), Draw(0, "dark", "t", "c"), 0.6, 250, 0.008)
    assert dark.dtype == np.uint8
    assert dark.max() < 10
