"""Sixteen masks of lens dirt, blended as nuScenes-R blends its own."""

import numpy as np
import pytest

from stage1_extract.conditions.camera.lens_dirt import MASKS, lens_mask, soil
from stage1_extract.conditions.draw import Draw
from tests.stage1_extract.conditions.frames import Scripted


def test_the_masks_are_sixteen_and_differ() -> None:
    masks = [lens_mask(number) for number in range(MASKS)]
    assert len({mask.tobytes() for mask in masks}) == MASKS == 16


@pytest.mark.parametrize("number", range(MASKS))
def test_a_mask_hides_a_part_of_the_image_and_leaves_most_of_it(number: int) -> None:
    share = ((lens_mask(number) / 255) ** 3).mean(axis=2)
    assert 0.05 < 1 - share.mean() < 0.4
    assert (share > 0.97).mean() > 0.2  # clean places
    assert share.min() < 0.4  # and dirty ones


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_the_blend_is_the_published_formula_truncated(number: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (225, 400, 3), np.uint8)
    mask = lens_mask(number).astype(np.float64)
    share = (mask / 255) ** 3
    expected = np.trunc(share * image + (1 - share) * mask)
    soiled = soil(image, Scripted((number + 0.5) / MASKS))
    assert np.abs(soiled - expected).max() <= 1  # of the order of operations
    assert (soiled != expected).mean() < 0.01
    assert soiled.dtype == np.uint8


def test_every_mask_is_drawn_about_as_often() -> None:
    image = np.full((9, 16, 3), 99, np.uint8)
    drawn = [soil(image, Draw(0, "occlusion", str(i), "CAM_FRONT")).tobytes() for i in range(320)]
    counts = [drawn.count(result) for result in set(drawn)]
    assert len(counts) == MASKS
    assert min(counts) > 5


def test_the_last_mask_is_within_reach() -> None:
    image = np.full((9, 16, 3), 99, np.uint8)
    last = soil(image, Scripted(np.nextafter(1, 0)))
    assert (last == soil(image, Scripted(15.5 / MASKS))).all()
