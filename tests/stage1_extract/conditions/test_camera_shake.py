"""Images are blurred along a line, by the weights and in the direction that are published."""

import math

import numpy as np
import pytest

from stage1_extract.conditions.camera.camera_shake import blur, line_px, tap_weights
from tests.stage1_extract.conditions.frames import Scripted


def test_weights_are_half_a_gaussian_that_sums_to_1() -> None:
    weights = tap_weights(6.0)
    assert len(weights) == 31
    assert weights.sum() == pytest.approx(1)
    assert weights[6] / weights[0] == pytest.approx(math.exp(-0.5))


def test_the_line_goes_to_the_right_and_down_for_a_positive_angle() -> None:
    level, diagonal = line_px(0.0), line_px(math.pi / 4)
    assert level == [(0, tap) for tap in range(31)]
    assert diagonal[0] == (0, 0)
    assert diagonal[10] == (7, 7)  # 10 * 0.707 to the nearest pixel
    assert line_px(-math.pi / 4)[10] == (-7, 7)


@pytest.mark.parametrize("number", [0.5, 0.0, 0.93])
def test_a_spot_is_smeared_against_the_line_with_its_weights(number: float) -> None:
    image = np.zeros((101, 141, 3), np.uint8)
    image[50, 70] = (255, 128, 64)
    blurred = blur(image, Scripted(number), 6.0)
    expected = np.zeros(image.shape)
    angle_rad = math.radians((2 * number - 1) * 45)
    for (row, column), weight in zip(line_px(angle_rad), tap_weights(6.0), strict=True):
        expected[50 - row, 70 - column] += weight * np.array([255, 128, 64])
    np.testing.assert_array_equal(blurred, np.floor(expected + 1e-3).astype(np.uint8))


def test_a_flat_image_stays_as_it_is_up_to_its_borders() -> None:
    image = np.full((40, 50, 3), 200, np.uint8)
    np.testing.assert_array_equal(blur(image, Scripted(0.8), 13.0), image)


def test_a_stronger_blur_reaches_farther_along_the_same_line() -> None:
    image = np.zeros((61, 121, 3), np.uint8)
    image[30, 90] = 255
    columns = [
        np.flatnonzero(blur(image, Scripted(0.5), px).sum(axis=(0, 2))) for px in (6.0, 13.0)
    ]
    assert columns[0].max() == columns[1].max() == 90
    assert columns[1].min() < columns[0].min()
