"""Variants: augmented copies of a sample, each drawn from (seed, token, variant) and nothing else.

Variant 0 is the sample as recorded. What a variant does to points, boxes and matrices is in
`variant_geometry`, to pixels in `images` and `grid_mask`.
"""

import hashlib
import json
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from shared.config.augmentation import Augmentation
from shared.config.preset import CameraBranch
from stage1_extract.preprocessing.grid_mask import GridMask
from stage1_extract.preprocessing.images import ImageTransform, identity_transform, resized_px

# One uniform number in [0, 1) each, in this order, for every variant of every preset. A different
# range or a missing branch therefore changes only what it concerns. Append, never insert.
DRAWN = (
    "rotation",
    "scale",
    "translation_x",
    "translation_y",
    "translation_z",
    "flip_y",
    "flip_x",
    "resize",
    "crop_left",
    "image_flip",
    "grid_mask",
    "mask_period",
    "mask_row_offset",
    "mask_column_offset",
    "points_order",
)
UNIFORM_STEPS = 2**53  # a uniform number is a multiple of 1 / UNIFORM_STEPS
LEAST_PERIOD_PX = 2  # of a grid mask; the largest is one less than the image height
Draws = dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """What a variant does: rotate, scale, shift, flip y, flip x, in this order; resize, crop, flip.

    Rotation, scale and shift are float32 values, so that float32 points and float64 matrices use
    the same numbers, and the last bits of a machine's logarithm cannot change them.

    Args:
        rotation_rad: about z, counter-clockwise seen from above.
        scale: of all three axes, about the origin.
        translation_m: x, y, z.
        flip_y: y becomes -y, left and right are swapped.
        flip_x: x becomes -x, front and back are swapped.
        image: the same for all cameras; None for a detector without cameras.
        grid_mask: the same for all cameras, or None.
        points_order_seed: seed of a random order of the points; None keeps the merged order.
        max_voxels: limit of the voxeliser; None is the preset's, that of the official evaluation.
    """

    rotation_rad: float = 0.0
    scale: float = 1.0
    translation_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    flip_y: bool = False
    flip_x: bool = False
    image: ImageTransform | None = None
    grid_mask: GridMask | None = None
    points_order_seed: int | None = None
    max_voxels: int | None = None

    @property
    def keeps_geometry(self) -> bool:
        """Whether the LiDAR frame stays as recorded."""
        turned = (self.rotation_rad, self.scale, self.translation_m) != (0, 1, (0, 0, 0))
        return not (turned or self.flip_y or self.flip_x)


def draw_variant(
    token: str, variant: int, *, seed: int, camera: CameraBranch | None, augmentation: Augmentation
) -> Variant:
    """Return a variant of a sample; the same on any machine, in any order, in any process.

    Args:
        token: nuScenes sample token.
        variant: 0 is the sample as recorded.
        seed: the same for the whole store.
        camera: the image branch, or None for a detector without cameras.
        augmentation: how far variants differ from the sample.
    """
    assert variant >= 0, f"there is no variant {variant}"
    if variant == 0:
        return Variant(image=None if camera is None else identity_transform(camera))
    draws = _draws(seed, token, variant)
    shift_m = (
        augmentation.translation_std_m * _normal(draws[f"translation_{axis}"]) for axis in "xyz"
    )
    x_m, y_m, z_m = (_float32(shift) for shift in shift_m)
    order_seed = int(draws["points_order"] * UNIFORM_STEPS)
    return Variant(
        rotation_rad=_float32(_within(augmentation.rotation_rad, draws["rotation"])),
        scale=_float32(_within(augmentation.scale, draws["scale"])),
        translation_m=(x_m, y_m, z_m),
        flip_y=draws["flip_y"] < augmentation.flip_y_probability,
        flip_x=draws["flip_x"] < augmentation.flip_x_probability,
        image=None if camera is None else _image_transform(draws, camera, augmentation),
        grid_mask=None if camera is None else _grid_mask(draws, camera.height_px, augmentation),
        points_order_seed=order_seed if augmentation.shuffle_points else None,
        max_voxels=augmentation.max_voxels,
    )


def _draws(seed: int, token: str, variant: int) -> Draws:
    """Return the uniform numbers of a variant: the first of PCG64, seeded with a SHA-256."""
    digest = hashlib.sha256(json.dumps([seed, token, variant]).encode()).digest()
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))
    return dict(zip(DRAWN, generator.random(len(DRAWN)).tolist(), strict=True))


def _image_transform(
    draws: Draws, camera: CameraBranch, augmentation: Augmentation
) -> ImageTransform:
    """Resize, cut off the top, crop at a random place from left to right, flip.

    A resized image narrower than the network's input starts at its left edge; zeros fill the rest.

    Source: CMT, `ResizeCropFlipImage._sample_augmentation`, training, where bot_pct_lim and rot_lim
    are (0, 0).
    """
    resize = _within(camera.resize_lim, draws["resize"])
    width_px, height_px = resized_px(camera, resize)
    return ImageTransform(
        resize=resize,
        left_px=int(max(0, width_px - camera.width_px) * draws["crop_left"]),
        top_px=height_px - camera.height_px,
        flip=draws["image_flip"] < augmentation.image_flip_probability,
    )


def _grid_mask(draws: Draws, height_px: int, augmentation: Augmentation) -> GridMask | None:
    """Source: CMT, grid_mask.py, `GridMask.forward`."""
    if draws["grid_mask"] >= augmentation.grid_mask_probability:
        return None
    period_px = LEAST_PERIOD_PX + int(draws["mask_period"] * (height_px - LEAST_PERIOD_PX))
    stripe_px = int(period_px * augmentation.grid_mask_ratio + 0.5)
    return GridMask(
        period_px=period_px,
        stripe_px=min(max(stripe_px, 1), period_px - 1),
        row_offset_px=int(draws["mask_row_offset"] * period_px),
        column_offset_px=int(draws["mask_column_offset"] * period_px),
    )


def _within(limits: tuple[float, float], uniform: float) -> float:
    low, high = limits
    return low + (high - low) * uniform


def _normal(uniform: float) -> float:
    """Return the quantile of the standard normal distribution."""
    return NormalDist().inv_cdf(max(uniform, 1 / UNIFORM_STEPS))  # 0 would be minus infinity


def _float32(value: float) -> float:
    return float(np.float32(value))
