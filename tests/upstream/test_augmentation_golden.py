"""Variants give the numbers of the official training transforms.

pytest tests/upstream --golden-dir DIR
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from shared.config.augmentation import Augmentation
from shared.config.preset import CameraBranch
from stage1_extract.nuscenes.records import Camera
from stage1_extract.preprocessing.grid_mask import mask_stripes
from stage1_extract.preprocessing.images import img_from_lidar, normalised, transform_pixels
from stage1_extract.preprocessing.variant import Variant, draw_variant
from stage1_extract.preprocessing.variant_geometry import (
    augment_boxes,
    augment_points,
    img_from_augmented,
)

# A float32 step at 64 m is 7.6e-6 m. Points of draws whose cosine or sine is a step off, and box
# centres, whose products torch does not fuse when they are few, are up to three steps apart.
COORDINATE_M = 2.3e-5
VELOCITY_MPS = 5e-6  # the same, at 20 m/s
# Upstream: projections pass through float32 twice, three of its steps of the largest number.
MATRIX = 2e-7


@dataclass(frozen=True)
class Draw:
    """A variant as we draw it, and as the official transforms drew and used it."""

    variant: Variant
    official: dict[str, Any]
    arrays: dict[str, NDArray[Any]]

    @property
    def same_turn(self) -> bool:
        """Whether torch's float32 cosine and sine are the nearest ones."""
        nearest = np.array([np.cos(self.variant.rotation_rad), np.sin(self.variant.rotation_rad)])
        return np.array_equal(nearest.astype(np.float32), self.arrays["rotation"][0, :2])


class AugmentationGolden:
    """The golden set: its settings as ours, inputs and draws."""

    def __init__(self, golden: Any) -> None:
        self.document = golden.document
        self.arrays = {key: value.numpy() for key, value in golden.arrays.items()}
        size = dict(self.document["camera"])
        size["resize_lim"] = tuple(size["resize_lim"])
        self.camera = CameraBranch(backbone="resnet50", base_channels=8, **size)
        self.draws = list(self._draws())

    @property
    def augmentation(self) -> Augmentation:
        official = self.document["augmentation"]
        std_m, *rest = official["translation_std"]
        assert rest == [std_m, std_m]
        return Augmentation(
            rotation_rad=tuple(official["rot_range"]),
            scale=tuple(official["scale_ratio_range"]),
            translation_std_m=std_m,
            flip_y_probability=official["flip_ratio_bev_horizontal"],
            flip_x_probability=official["flip_ratio_bev_vertical"],
            grid_mask_probability=official["grid_mask_prob"],
            grid_mask_ratio=official["grid_mask_ratio"],
        )

    def _draws(self) -> Iterator[Draw]:
        for number, official in enumerate(self.document["draws"]):
            variant = draw_variant(
                official["token"],
                official["view"],
                seed=official["seed"],
                camera=self.camera,
                augmentation=self.augmentation,
            )
            yield Draw(variant, official, self.below(f"draw{number}/"))

    def below(self, prefix: str) -> dict[str, NDArray[Any]]:
        """Return the arrays whose keys begin with `prefix`, by the rest of the key."""
        return {k.removeprefix(prefix): v for k, v in self.arrays.items() if k.startswith(prefix)}

    def img_from_lidar(self, variant: Variant) -> NDArray[np.float64]:
        """Return the projections of both cameras for points as recorded."""
        assert variant.image is not None
        matrices = []
        for camera_from_lidar, intrinsics in zip(
            self.arrays["in/lidar2cam"], self.arrays["in/intrinsics"], strict=True
        ):
            lidar_from_camera = np.linalg.inv(camera_from_lidar)
            camera = Camera(
                name="synthetic",
                file=Path("none"),
                intrinsics=intrinsics[:3, :3],
                rotation=lidar_from_camera[:3, :3],
                translation_m=lidar_from_camera[:3, 3],
            )
            matrices.append(img_from_lidar(camera, variant.image, self.camera))
        return np.stack(matrices)


@pytest.fixture(scope="module")
def golden(augmentation_golden) -> AugmentationGolden:
    return AugmentationGolden(augmentation_golden)


def close(ours: NDArray[Any], official: NDArray[Any], atol: float) -> None:
    assert (ours.dtype, ours.shape) == (official.dtype, official.shape)
    np.testing.assert_allclose(ours, official, rtol=0, atol=atol)


def test_our_defaults_are_the_official_numbers(golden: AugmentationGolden) -> None:
    assert golden.augmentation == Augmentation()


def test_the_same_uniform_numbers_give_the_official_draws(golden: AugmentationGolden) -> None:
    for draw in golden.draws:
        variant, official = draw.variant, draw.official
        assert variant.rotation_rad == official["rotation_rad"]
        assert variant.scale == official["scale"]
        assert list(variant.translation_m) == official["translation_m"]
        assert variant.flip_y == official["horizontal_flip"]
        assert variant.flip_x == official["vertical_flip"]
        assert variant.image.resize == official["resize"]
        assert [variant.image.left_px, variant.image.top_px] == official["crop"][:2]
        assert variant.image.flip == official["image_flip"]
        mask = variant.grid_mask and {
            "d": variant.grid_mask.period_px,
            "l": variant.grid_mask.stripe_px,
            "st_h": variant.grid_mask.row_offset_px,
            "st_w": variant.grid_mask.column_offset_px,
        }
        assert mask == official["grid_mask"]


def test_all_four_flips_occur_and_a_variant_without_a_mask(golden: AugmentationGolden) -> None:
    assert len({(draw.variant.flip_x, draw.variant.flip_y) for draw in golden.draws}) == 4
    assert {draw.variant.grid_mask is None for draw in golden.draws} == {True, False}


def test_points_have_the_official_bits_where_the_turn_has(golden: AugmentationGolden) -> None:
    for draw in golden.draws:
        in_order = replace(draw.variant, points_order_seed=None)
        points = augment_points(golden.arrays["in/points"], in_order)
        close(points, draw.arrays["points"], 0 if draw.same_turn else COORDINATE_M)
    assert {draw.same_turn for draw in golden.draws} == {True, False}


def test_boxes_are_the_official_ones(golden: AugmentationGolden) -> None:
    for draw in golden.draws:
        boxes = augment_boxes(golden.arrays["in/boxes"], draw.variant)
        official = draw.arrays["boxes_gravity"]
        close(boxes[:, :3], official[:, :3], COORDINATE_M)
        close(boxes[:, 3:7], official[:, 3:7], 0)
        close(boxes[:, 7:], official[:, 7:], 0 if draw.same_turn else VELOCITY_MPS)


def test_projections_are_the_official_ones(golden: AugmentationGolden) -> None:
    for draw in golden.draws:
        ours = img_from_augmented(golden.img_from_lidar(draw.variant), draw.variant)
        official = draw.arrays["lidar2img"]
        close(ours, official, MATRIX * np.abs(official).max())


def test_images_and_masks_have_the_official_bits(golden: AugmentationGolden) -> None:
    camera = golden.camera
    compared = {"image": 0, "masked": 0, "mask": 0}
    for draw in golden.draws:
        pixels = transform_pixels(golden.arrays["in/image"], draw.variant.image, camera)
        planes = torch.from_numpy(pixels.transpose(2, 0, 1))
        ours = {"image": normalised(planes, camera).numpy()}
        if draw.variant.grid_mask is not None:
            stripes = mask_stripes(draw.variant.grid_mask, camera.height_px, camera.width_px)
            rows, columns = np.split(stripes, [camera.height_px])
            masked = normalised(planes, camera, torch.from_numpy(stripes)).numpy()
            ours |= {"masked": masked, "mask": (rows[:, None] | columns).astype(np.uint8)}
        for name in compared.keys() & draw.arrays.keys():
            close(ours[name], draw.arrays[name], 0)
            compared[name] += 1
    assert all(compared.values())


def test_without_lidar_boxes_turn_with_the_cameras_unlike_in_the_official_config(
    golden: AugmentationGolden,
) -> None:
    """`reverse_angle` turns boxes one way and projections the other in mmdet3d 1.0.0rc5."""
    variant = Variant(**golden.document["cameras_alone"], image=golden.draws[0].variant.image)
    official = golden.below("cameras_alone/")
    plain = golden.arrays["in/intrinsics"] @ golden.arrays["in/lidar2cam"]
    close(
        img_from_augmented(plain, variant),
        official["lidar2img"].astype(np.float64),
        MATRIX * np.abs(official["lidar2img"]).max(),
    )
    boxes = augment_boxes(golden.arrays["in/boxes"], variant)
    close(boxes[:, :3], official["boxes_gravity_reverse_off"][:, :3], COORDINATE_M)

    turned_back = official["boxes_gravity_reverse_on"]
    between = turned_back[:, 6] - official["boxes_gravity_reverse_off"][:, 6]
    close(between, np.full(9, -2 * variant.rotation_rad, np.float32), 1e-6)
