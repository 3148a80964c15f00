"""Haze that hides what is far: depth from the LiDAR keyframe, light lost and added on the way.

Ours: MultiCorrupt's image fog grows with the distance from a rectangle in the image, not with that
of things. The attenuation is that of the LiDAR fog of the same severity, so both describe a fog.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from stage1_extract.conditions.condition import Pixels, Points
from stage1_extract.conditions.draw import Draw
from stage1_extract.nuscenes.records import Camera
from stage1_extract.nuscenes.transforms import camera_from_lidar, product

CELL_PX = 16  # depth is known per cell: a keyframe has about one point in each
NEAR_M = 1.0
SKY_M = 1000.0  # so far that nothing of it is left
TOP_BEAM_RAD = np.radians(9.0)  # the highest lasers look up by 10.7 and 9.3 degrees
VOTING_COLUMNS = 9
AIRLIGHT = 200.0  # level of the haze itself, an overcast sky


def haze(
    pixels: Pixels, points: Points, camera: Camera, draw: Draw, attenuation_per_m: float
) -> Pixels:
    """Mix each pixel with the haze in front of it: t * pixel + (1 - t) * airlight, t = exp(-a * d).

    Args:
        pixels: (H, W, 3) uint8, BGR.
        points: (P, 5) float32 of the keyframe's file, LiDAR frame.
        camera: its pose in the keyframe's LiDAR frame.
        draw: unused, nothing is random.
        attenuation_per_m: of the haze.

    Source: Koschmieder's law, as Foggy Cityscapes (Sakaridis et al. 2018) and others use it.
    """
    height_px, width_px = pixels.shape[:2]
    depth_m = cell_depths(points, camera, height_px, width_px)
    share = np.exp(-attenuation_per_m * depth_m).astype(np.float32)
    smooth = cv2.resize(cv2.GaussianBlur(share, (0, 0), 1.5), (width_px, height_px))
    hazy = (pixels - np.float32(AIRLIGHT)) * smooth[:, :, None] + np.float32(AIRLIGHT)
    return np.asarray(np.rint(hazy), np.uint8)


def cell_depths(
    points: Points, camera: Camera, height_px: int, width_px: int
) -> NDArray[np.float64]:
    """Return the depth of 16-pixel cells, metres along the optical axis; rows from the top.

    A cell has the depth of its nearest point. One without points has that of the nearest cell with
    points (in pixels), but above the highest point of its column it is sky, unless that point comes
    from the two highest lasers: then what they hit goes on above it.
    """
    rows, columns = -(-height_px // CELL_PX), -(-width_px // CELL_PX)
    depth_m = np.full((rows, columns), np.inf)
    is_top = np.zeros((rows, columns), np.bool_)
    matrix = camera_from_lidar(camera.rotation, camera.translation_m)
    places = product(points[:, :3].astype(np.float64), matrix[:3, :3].T) + matrix[:3, 3]
    pixels = product(places, camera.intrinsics.T)
    in_front = places[:, 2] > NEAR_M
    cells = np.floor(pixels[in_front, :2] / pixels[in_front, 2:] / CELL_PX)
    inside = ((cells >= 0) & (cells < (columns, rows))).all(axis=1)
    column, row = cells[inside].astype(np.intp).T
    visible = points[in_front][inside, :3].astype(np.float64)
    np.minimum.at(depth_m, (row, column), places[in_front][inside, 2])
    elevation_rad = np.arctan2(visible[:, 2], np.hypot(visible[:, 0], visible[:, 1]))
    is_top[row[elevation_rad > TOP_BEAM_RAD], column[elevation_rad > TOP_BEAM_RAD]] = True
    return _without_holes(depth_m, is_top)


def _without_holes(depth_m: NDArray[np.float64], is_top: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Fill cells whose depth is infinite, see `cell_depths`."""
    is_hole = np.isinf(depth_m)
    if is_hole.all():
        return np.full(depth_m.shape, SKY_M)
    _, labels = cv2.distanceTransformWithLabels(
        is_hole.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    by_label = np.zeros(labels.max() + 1)
    by_label[labels[~is_hole]] = depth_m[~is_hole]
    filled: NDArray[np.float64] = by_label[labels]
    highest = np.argmax(~is_hole, axis=0)  # row of each column's highest point
    above = np.arange(len(depth_m))[:, None] < highest
    ends = ~is_top[highest, np.arange(depth_m.shape[1])] & ~is_hole.all(axis=0)
    # Lasers miss windows and gaps: neighbouring columns decide together.
    is_open = cv2.blur(ends.astype(np.float32)[None], (VOTING_COLUMNS, 1))[0] > 0.5
    filled[above & is_open] = SKY_M
    return filled
