"""Conditions of LiDAR points."""

from functools import partial

from stage1_extract.conditions.condition import Condition
from stage1_extract.conditions.lidar.beams import (
    elevation_bands,
    evenly_spaced_rings,
    keep_elevations,
    keep_rings,
)
from stage1_extract.conditions.lidar.displaced_points import misalign, shake
from stage1_extract.conditions.lidar.fog_on_points import fog
from stage1_extract.conditions.lidar.object_failure import (
    remove_objects,
    samples_that_fail,
    samples_with_failing_boxes,
)
from stage1_extract.conditions.lidar.point_selection import drop_share, keep_azimuths

MULTICORRUPT = "MultiCorrupt (Beemelmanns et al. 2024), converter/lidar.py"
NUSCENES_R = "nuScenes-R (Yu et al. 2023)"
# Fog of MultiCorrupt by severity: attenuation in 1/m, backscattering in 1/(m sr).
FOG = ((0.02, 0.008), (0.03, 0.008), (0.06, 0.05))
MISALIGNMENTS = ((0.2, 1), (0.4, 2), (0.6, 3))  # probability, degrees
SHAKES_M = (0.06, 0.1, 0.13)


def beams_even(beams: int) -> Condition:
    """Keep 16, 8 or 4 evenly spaced rings of every LiDAR file, before sweeps are merged."""
    rings = evenly_spaced_rings(beams)
    return Condition(
        name=f"beams-{beams}-even",
        family="beams-even",
        severity={16: 1, 8: 2, 4: 3}[beams],
        source=f"{MULTICORRUPT}, beams reducing",
        parameters={"rings": list(rings)},
        lidar_file=lambda points, draw: keep_rings(points, rings),
    )


def beams_elevation(beams: int) -> Condition:
    """Keep 16, 4 or 1 bands of elevation of every LiDAR file, near the horizon if few."""
    bands = elevation_bands(beams)
    return Condition(
        name=f"beams-{beams}-elevation",
        family="beams-elevation",
        severity={16: 1, 4: 2, 1: 3}[beams],
        source="MIT BEVFusion (Liu et al. 2023), loading_utils.py; MetaBEV's, and probably MoME's",
        parameters={"bands_rad": [list(band) for band in bands]},
        lidar_file=lambda points, draw: keep_elevations(points, bands),
    )


def points_dropped(percent: int) -> Condition:
    """Remove 70, 80 or 90 % of the points of every LiDAR file at random."""
    return Condition(
        name=f"points-{percent}",
        family="points",
        severity={70: 1, 80: 2, 90: 3}[percent],
        source=f"{MULTICORRUPT}, points reducing; the others stay in their order",
        parameters={"removed_percent": percent},
        lidar_file=partial(drop_share, removed_percent=percent),
    )


def field_of_view(half_angle_deg: int) -> Condition:
    """Keep points within 90 or 60 degrees of the car's front, on either side."""
    return Condition(
        name=f"fov-{half_angle_deg}",
        family="fov",
        severity={90: 1, 60: 2}[half_angle_deg],
        source=f"{NUSCENES_R}, toolkit, limited LiDAR FOV",
        parameters={"half_angle_deg": half_angle_deg},
        merged_points=lambda points, record, draw: keep_azimuths(points, half_angle_deg),
    )


def objects_sample() -> Condition:
    """In half of the samples, remove the points inside all boxes."""
    return Condition(
        name="objects-sample",
        family="objects-sample",
        source=f"{NUSCENES_R}, toolkit, LiDAR object failure: a switch per sample",
        parameters={"sample_probability": 0.5},
        merged_points=partial(remove_objects, rate=1.0),
        edits=samples_that_fail,
    )


def objects_object(percent: int) -> Condition:
    """Remove the points inside 10, 30, 50 or 70 % of the boxes of each sample."""
    rate = percent / 100
    return Condition(
        name=f"objects-object-{percent}",
        family="objects-object",
        severity={10: 1, 30: 2, 50: 3, 70: 4}[percent],
        source="ours, at the rates of MetaBEV (Ge et al. 2023), whose code is not published",
        parameters={"rate": rate},
        merged_points=partial(remove_objects, rate=rate),
        edits=samples_with_failing_boxes,
    )


def lidar_shift(severity: int) -> Condition:
    """Turn and shift a file's points by 2 m, each file with a probability."""
    probability, angle_deg = MISALIGNMENTS[severity - 1]
    return Condition(
        name=f"lidar-shift-{severity}",
        family="lidar-shift",
        severity=severity,
        source=f"{MULTICORRUPT}, spatial misalignment",
        parameters={"file_probability": probability, "angle_deg": angle_deg},
        lidar_file=partial(misalign, probability=probability, angle_deg=angle_deg),
    )


def lidar_blur(severity: int) -> Condition:
    """Shift each file's points by some centimetres, and jitter every point."""
    return Condition(
        name=f"lidar-blur-{severity}",
        family="lidar-blur",
        severity=severity,
        source=f"{MULTICORRUPT}, the part of motion blur that moves points",
        parameters={"shake_m": SHAKES_M[severity - 1]},
        lidar_file=partial(shake, shake_m=SHAKES_M[severity - 1]),
    )


def lidar_fog(severity: int) -> Condition:
    """Weaken the echoes of every file by fog, and replace those that the fog outshines."""
    alpha, beta = FOG[severity - 1]
    return Condition(
        name=f"fog-{severity}",
        family="fog",
        severity=severity,
        source=f"LiDAR_fog_sim (Hahner et al. 2021) with noise and severities of {MULTICORRUPT}",
        parameters={"alpha_per_m": alpha, "beta_per_m_sr": beta},
        lidar_file=partial(fog, alpha_per_m=alpha, beta_per_m_sr=beta),
    )
