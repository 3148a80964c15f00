"""Views give the numbers of the official training transforms.

pytest tests/upstream --golden-dir DIR
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.augmentation import Augmentation
from shared.config import CameraBranch
from stage1_extract.augment import View, draw_view
from stage1_extract.grid_mask import apply_grid_mask, mask_pixels
from stage1_extract.images import img_from_lidar, normalise, transform_pixels
from stage1_extract.records import Camera
from stage1_extract.view_geometry import augment_boxes, augment_points, img_from_augmented

# A float32 step at 64 m is 7.6e-6 m. Points of draws whose cosine or sine is a step off, and box
# centres, whose products torch does not fuse when there are few, come out up to three apart.
COORDINATE_M = 2.3e-5
VELOCITY_MPS = 5e-6  # the same, at 20 m/s
# Upstream: projections pass through float32 twice, three of its steps of the largest number.
MATRIX = 2e-7


@dataclass(frozen=True)
class Draw:
    """One view, as drawn by us and as the official transforms drew and used it."""

    view: View
    official: dict[str, Any]
    arrays: dict[str, NDArray[Any]]

    @property
    def same_turn(self) -> bool:
        """Whether torch's float32 cosine and sine are the nearest ones."""
        nearest = np.array([np.cos(self.view.rotation_rad), np.sin(self.view.rotation_rad)])
        return np.array_equal(nearest.astype(np.float32), self.arrays["rotation"][0, :2])


class AugmentationGolden:
    """The set: settings as ours, inputs, draws."""

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
        std_m, *others = official["translation_std"]
        assert others == [std_m, std_m]
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
            view = draw_view(
                official["token"],
                official["view"],
                seed=official["seed"],
                camera=self.camera,
                augmentation=self.augmentation,
            )
            yield Draw(view, official, self.below(f"draw{number}/"))

    def below(self, prefix: str) -> dict[str, NDArray[Any]]:
        """Return the arrays below `prefix`, without it."""
        return {k.removeprefix(prefix): v for k, v in self.arrays.items() if k.startswith(prefix)}

    def img_from_lidar(self, view: View) -> NDArray[np.float64]:
        """Return the projections of both cameras for points as recorded."""
        assert view.image is not None
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
            matrices.append(img_from_lidar(camera, view.image, self.camera))
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
        view, official = draw.view, draw.official
        assert view.rotation_rad == official["rotation_rad"]
        assert view.scale == official["scale"]
        assert list(view.translation_m) == official["translation_m"]
        assert view.flip_y == official["horizontal_flip"]
        assert view.flip_x == official["vertical_flip"]
        assert view.image.resize == official["resize"]
        assert [view.image.left_px, view.image.top_px] == official["crop"][:2]
        assert view.image.flip == official["image_flip"]
        mask = view.grid_mask and {
            "d": view.grid_mask.period_px,
            "l": view.grid_mask.stripe_px,
            "st_h": view.grid_mask.row_offset_px,
            "st_w": view.grid_mask.column_offset_px,
        }
        assert mask == official["grid_mask"]


def test_all_four_flips_occur_and_a_view_without_a_mask(golden: AugmentationGolden) -> None:
    assert len({(draw.view.flip_x, draw.view.flip_y) for draw in golden.draws}) == 4
    assert {draw.view.grid_mask is None for draw in golden.draws} == {True, False}


def test_points_have_the_official_bits_where_the_turn_has(golden: AugmentationGolden) -> None:
    for draw in golden.draws:
        in_order = replace(draw.view, points_order_seed=None)
        points = augment_points(golden.arrays["in/points"], in_order)
        close(points, draw.arrays["points"], 0 if draw.same_turn else COORDINATE_M)
    assert {draw.same_turn for draw in golden.draws} == {True, False}


def test_boxes_are_the_official_ones(golden: AugmentationGolden) -> None:
    for draw in golden.draws:
        boxes = augment_boxes(golden.arrays["in/boxes"], draw.view)
        official = draw.arrays["boxes_gravity"]
        close(boxes[:, :3], official[:, :3], COORDINATE_M)
        close(boxes[:, 3:7], official[:, 3:7], 0)
        close(boxes[:, 7:], official[:, 7:], 0 if draw.same_turn else VELOCITY_MPS)


def test_projections_are_the_official_ones(golden: AugmentationGolden) -> None:
    for draw in golden.draws:
        ours = img_from_augmented(golden.img_from_lidar(draw.view), draw.view)
        official = draw.arrays["lidar2img"]
        close(ours, official, MATRIX * np.abs(official).max())


def test_images_and_masks_have_the_official_bits(golden: AugmentationGolden) -> None:
    camera = golden.camera
    seen = {"image": 0, "masked": 0, "mask": 0}
    for draw in golden.draws:
        image = np.empty((3, camera.height_px, camera.width_px), np.float32)
        pixels = transform_pixels(golden.arrays["in/image"], draw.view.image, camera)
        normalise(pixels, camera, out=image)
        ours = {"image": image}
        if draw.view.grid_mask is not None:
            mask = mask_pixels(draw.view.grid_mask, camera.height_px, camera.width_px)
            ours |= {"masked": image.copy(), "mask": mask.astype(np.uint8)}
            apply_grid_mask(ours["masked"], draw.view.grid_mask)
        for name in seen.keys() & draw.arrays.keys():
            close(ours[name], draw.arrays[name], 0)
            seen[name] += 1
    assert all(seen.values())


def test_cameras_alone_turn_boxes_with_the_cameras_not_as_the_official_config(
    golden: AugmentationGolden,
) -> None:
    """`reverse_angle` turns boxes one way and projections the other in mmdet3d 1.0.0rc5."""
    view = View(**golden.document["cameras_alone"], image=golden.draws[0].view.image)
    official = golden.below("cameras_alone/")
    plain = golden.arrays["in/intrinsics"] @ golden.arrays["in/lidar2cam"]
    close(
        img_from_augmented(plain, view),
        official["lidar2img"].astype(np.float64),
        MATRIX * np.abs(official["lidar2img"]).max(),
    )
    boxes = augment_boxes(golden.arrays["in/boxes"], view)
    close(boxes[:, :3], official["boxes_gravity_reverse_off"][:, :3], COORDINATE_M)

    turned_back = official["boxes_gravity_reverse_on"]
    between = turned_back[:, 6] - official["boxes_gravity_reverse_off"][:, 6]
    close(between, np.full(9, -2 * view.rotation_rad, np.float32), 1e-6)
