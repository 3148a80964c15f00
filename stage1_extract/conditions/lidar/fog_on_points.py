"""Fog in a LiDAR file: weaker echoes, and echoes of the fog itself where they are the stronger.

The model of M. Hahner et al., "Fog simulation on real LiDAR point clouds for 3D object detection in
adverse weather" (ICCV 2021), with the sensor of their public code (LiDAR_fog_sim) and the noise and
severities of MultiCorrupt. Neither was fitted to nuScenes' HDL-32E. P points, R ranges.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import simpson

from stage1_extract.conditions.condition import Points
from stage1_extract.conditions.draw import Draw

LIGHT_M_S = 299_792_458.0
PULSE_S = 2e-8  # half-power width
COVERED_FROM_M, COVERED_M = 0.9, 1.0  # the receiver begins to see the beam, and sees all of it
TARGET_PER_SR = 1e-6 / np.pi  # differential reflectivity that intensity 1 at 1 m stands for
FARTHEST_M, RANGES = 200.0, 2000  # of the table; the source integrates in as many steps
STEPS_PER_M = 10  # ranges are looked up to 0.1 m
NOISE_M = 10.0


def fog(points: Points, draw: Draw, alpha_per_m: float, beta_per_m_sr: float) -> Points:
    """Weaken echoes by the way through fog, and replace those that the fog outshines.

    An outshone echo moves along its ray to where the fog's echo is strongest, times
    r / uniform(r - 10 m, r + 10 m): beyond that place or nearer, and for r below 10 m even behind
    the sensor. No point is removed, and intensities may exceed 255.

    Upstream: LiDAR_fog_sim limits intensities to 255, MultiCorrupt does not.

    Args:
        points: (P, 5) float32 of a raw file, frame of its own sensor.
        draw: a number per point.
        alpha_per_m: attenuation coefficient.
        beta_per_m_sr: backscattering coefficient.

    Source: LiDAR_fog_sim, fog_simulation.py, `simulate_fog`, noise variant v1, no gain;
    MultiCorrupt, converter/lidar.py.
    """
    range_m = np.linalg.norm(points[:, :3].astype(np.float64), axis=1)
    intensity = points[:, 3].astype(np.float64)
    weakened = np.rint(np.exp(-2 * alpha_per_m * range_m) * intensity)
    places_m, integrals = soft_echoes(alpha_per_m)
    at = np.minimum(np.rint(range_m * STEPS_PER_M), FARTHEST_M * STEPS_PER_M).astype(np.intp)
    soft = integrals[at] * intensity * range_m**2 * beta_per_m_sr / TARGET_PER_SR
    noisy_m = range_m + NOISE_M * (2 * draw.uniform(len(points)) - 1)
    outshone = (soft > weakened) & (noisy_m != 0)
    factor = np.ones(len(points))
    factor[outshone] = places_m[at[outshone]] / noisy_m[outshone]
    foggy = points.copy()
    foggy[:, :3] *= factor[:, None]
    foggy[:, 3] = np.where(outshone, soft, weakened)
    return foggy


@cache
def soft_echoes(alpha_per_m: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return where fog in front of a target echoes most, and how strongly.

    Args:
        alpha_per_m: attenuation coefficient.

    Returns:
        Distances in metres and integrals of equation (13) per (c_A P_0 beta), both (2001,) float64,
        for targets at 0, 0.1, ..., 200 m. What lies behind the target does not echo, and before it
        the echo does not depend on the target: the strongest so far is the strongest.

    Source: LiDAR_fog_sim, theory.py and generate_integral_lookup_table.py; equal to its published
    tables in distance, and within 3e-5 of them in strength.
    """
    echo_m = np.linspace(0, FARTHEST_M, RANGES)
    time_s = np.linspace(0, 2 * PULSE_S, RANGES)
    scattered_m = echo_m[:, None] - LIGHT_M_S * time_s / 2  # (R, R)
    covered = np.clip((scattered_m - COVERED_FROM_M) / (COVERED_M - COVERED_FROM_M), 0, 1)
    near_m = np.maximum(scattered_m, COVERED_FROM_M)  # nothing nearer counts, nor is divided by
    pulse = np.sin(np.pi * time_s / (2 * PULSE_S)) ** 2
    received = pulse * np.exp(-2 * alpha_per_m * near_m) / near_m**2 * covered
    integrals = simpson(received, x=time_s, axis=1)
    strongest = np.maximum.accumulate(integrals)
    first = np.searchsorted(strongest, strongest, side="left")  # (R,)
    targets_m = np.arange(round(FARTHEST_M * STEPS_PER_M) + 1) / STEPS_PER_M
    before = first[np.searchsorted(echo_m, targets_m, side="right") - 1]
    return echo_m[before], integrals[before]
