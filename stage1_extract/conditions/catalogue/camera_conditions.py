"""Conditions of images and of the cameras' calibration."""

from functools import partial

from stage1_extract.conditions.camera.camera_shake import blur
from stage1_extract.conditions.camera.depth_haze import haze
from stage1_extract.conditions.camera.exposure import brighten, darken
from stage1_extract.conditions.camera.extrinsics import (
    ANGLE_DEG,
    SHIFT_M,
    disturb_each,
    disturb_together,
)
from stage1_extract.conditions.camera.lens_dirt import MASKS, soil
from stage1_extract.conditions.condition import Condition

MULTICORRUPT = "MultiCorrupt (Beemelmanns et al. 2024), converter/img.py"
NUSCENES_R = "nuScenes-R (Yu et al. 2023)"
TENTHS_BRIGHTER = (5, 6, 7)
DARKNESS = ((0.6, 250, 0.008), (0.4, 120, 0.018), (0.3, 50, 0.026))
BLUR_PX = (6.0, 10.0, 13.0)
ATTENUATIONS_PER_M = (0.02, 0.03, 0.06)  # of `fog` of the same severity


def brightness(severity: int) -> Condition:
    """Add 0.5, 0.6 or 0.7 to the value (HSV) of every pixel."""
    tenths = TENTHS_BRIGHTER[severity - 1]
    return Condition(
        name=f"brightness-{severity}",
        family="brightness",
        severity=severity,
        source=f"{MULTICORRUPT}, brightness",
        parameters={"value_added": tenths / 10},
        image=lambda pixels, draw: brighten(pixels, tenths),
    )


def dark(severity: int) -> Condition:
    """Darken images to 0.6, 0.4 or 0.3 of white with gamma 2, and add sensor noise."""
    brightest, photons, noise = DARKNESS[severity - 1]
    return Condition(
        name=f"dark-{severity}",
        family="dark",
        severity=severity,
        source=f"{MULTICORRUPT}, dark",
        parameters={"brightest": brightest, "photons": photons, "noise": noise},
        image=partial(darken, brightest=brightest, photons=photons, noise=noise),
    )


def camera_blur(severity: int) -> Condition:
    """Blur each image along a line of its own, within 45 degrees of level."""
    return Condition(
        name=f"blur-{severity}",
        family="blur",
        severity=severity,
        source=f"{MULTICORRUPT}, the part of motion blur that changes images",
        parameters={"deviation_px": BLUR_PX[severity - 1]},
        image=partial(blur, deviation_px=BLUR_PX[severity - 1]),
    )


def occlusion() -> Condition:
    """Lay one of sixteen masks of lens dirt over each image."""
    return Condition(
        name="occlusion",
        family="occlusion",
        source=f"{NUSCENES_R}, toolkit, occlusion of camera lens; the masks are ours",
        parameters={"masks": MASKS},
        image=soil,
    )


def image_haze(severity: int) -> Condition:
    """Hide what is far behind haze, by depth from the LiDAR keyframe."""
    attenuation = ATTENUATIONS_PER_M[severity - 1]
    return Condition(
        name=f"haze-ours-{severity}",
        family="haze-ours",
        severity=severity,
        source="ours: Koschmieder's law with the attenuation of MultiCorrupt's LiDAR fog",
        parameters={"attenuation_per_m": attenuation},
        image_with_points=partial(haze, attenuation_per_m=attenuation),
    )


def extrinsics_single() -> Condition:
    """Disturb the calibration of each camera by a motion of its own."""
    return Condition(
        name="extrinsics-single",
        family="extrinsics-single",
        source=f"{NUSCENES_R}, create_noise_data_nuscenes.py, 'single'",
        parameters={"angle_deg": list(ANGLE_DEG), "shift_m": list(SHIFT_M)},
        camera_poses=disturb_each,
    )


def extrinsics_all() -> Condition:
    """Disturb the calibration of all cameras of a sample by the same motion."""
    return Condition(
        name="extrinsics-all",
        family="extrinsics-all",
        source=f"{NUSCENES_R}, create_noise_data_nuscenes.py, 'all'",
        parameters={"angle_deg": list(ANGLE_DEG), "shift_m": list(SHIFT_M)},
        camera_poses=disturb_together,
    )
