"""How far augmented variants may differ from their sample, and the official settings."""

from dataclasses import dataclass

from shared.config.preset import Preset
from shared.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Augmentation:
    """How far variants may differ from their sample; the defaults are those of both fusion configs.

    The range of the image's resize factor is `CameraBranch.resize_lim`.

    Args:
        rotation_rad: range of the rotation about z, counter-clockwise.
        scale: range of the scale.
        translation_std_m: standard deviation of the shift along x, y and z.
        flip_y_probability: of y to -y ("horizontal" upstream).
        flip_x_probability: of x to -x ("vertical" upstream).
        image_flip_probability: of mirroring all images left to right.
        grid_mask_probability: of a grid mask.
        grid_mask_ratio: share of a mask's period that a stripe covers.
        shuffle_points: put the points in random order, which decides which ten of an overfull voxel
            are kept.
        max_voxels: training limit of the voxeliser; the preset's own where that is lower, or None.

    Raises:
        ConfigError: if a range is reversed, a scale or limit not positive, or a probability outside
            0 to 1.

    Source: CMT, cmt_voxel0100_r50_800x320_cbgs.py and cmt_voxel0075_vov_1600x640_cbgs.py
    (GlobalRotScaleTransAll, CustomRandomFlip3D, PointShuffle, pts_voxel_layer, ResizeCropFlipImage,
    GridMask).
    Pasted objects (UnifiedObjectSample) and absent sensors (ModalMask3D) are not in a variant.
    """

    rotation_rad: tuple[float, float] = (-0.785, 0.785)
    scale: tuple[float, float] = (0.9, 1.1)
    translation_std_m: float = 0.5
    flip_y_probability: float = 0.5
    flip_x_probability: float = 0.5
    image_flip_probability: float = 0.5
    grid_mask_probability: float = 0.7
    grid_mask_ratio: float = 0.5
    shuffle_points: bool = True
    max_voxels: int | None = 120_000

    def __post_init__(self) -> None:
        for name in ("rotation_rad", "scale"):
            low, high = getattr(self, name)
            if not low <= high:
                raise ConfigError(f"augmentation {name} is ({low}, {high}); give (least, largest)")
        if not self.scale[0] > 0:
            raise ConfigError(f"augmentation scale begins at {self.scale[0]}; it must be above 0")
        if not self.translation_std_m >= 0:
            raise ConfigError(
                f"translation_std_m is {self.translation_std_m}; it must be 0 or more"
            )
        for name in ("flip_y", "flip_x", "image_flip", "grid_mask"):
            probability = getattr(self, f"{name}_probability")
            if not 0 <= probability <= 1:
                raise ConfigError(f"{name}_probability is {probability}, not within 0 and 1")
        if self.max_voxels is not None and not self.max_voxels > 0:
            raise ConfigError(f"augmentation max_voxels is {self.max_voxels}; it must be above 0")
        if not 0 < self.grid_mask_ratio < 1:
            raise ConfigError(f"grid_mask_ratio is {self.grid_mask_ratio}, not between 0 and 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class VariantDraws:
    """How the augmented variants of a store are drawn.

    Args:
        seed: shared by all; a variant depends only on it, the token and the variant's number.
        augmentation: how far variants may differ from their sample.
    """

    augmentation: Augmentation
    seed: int = 0


def official_augmentation(preset: Preset) -> Augmentation:
    """Return what the official config for the preset's sensors trains with.

    Upstream: in the camera-only config, `reverse_angle` with mmdet3d 1.0.0rc5 turns the cameras one
    way and the boxes the other, up to 45 degrees apart; here they turn together.

    Source: CMT; cmt_camera_vov_1600x640_cbgs.py for cameras only (GlobalRotScaleTransImage, no
    GridMask). cmt_lidar_voxel0075_cbgs.py has the numbers of the fusion configs.
    """
    if preset.lidar is not None:
        return Augmentation()
    return Augmentation(
        rotation_rad=(-0.3925, 0.3925),
        scale=(0.95, 1.05),
        translation_std_m=0.0,
        flip_y_probability=0.0,
        flip_x_probability=0.0,
        grid_mask_probability=0.0,
        shuffle_points=False,
        max_voxels=None,
    )
