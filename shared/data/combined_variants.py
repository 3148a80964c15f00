"""Samples whose cameras are of one variant, and LiDAR, boxes and poses of another.

An augmented image does not depend on how the LiDAR frame is augmented, nor the other way round:
only `img_from_lidar` joins them. So the maps of any two variants of a sample go together, once the
cameras project points of the LiDAR frame that the sample gets.

V cameras.
"""

import numpy as np
from numpy.typing import NDArray

CAMERA_MAPS = "camera/"  # how the names of the cameras' maps begin

Matrices = NDArray[np.float64]


def is_camera_map(name: str) -> bool:
    """Return whether a map is computed from images, by its `FeatureMap.name`."""
    return name.startswith(CAMERA_MAPS)


def combined_img_from_lidar(
    img_from_lidar: Matrices, ego_from_camera_lidar: Matrices, ego_from_lidar: Matrices
) -> Matrices:
    """Return projections of a variant's points into the images of another variant of the sample.

    What augmenting a sample this way at once gives, within 1e-14 of a matrix's largest entry: tests
    compare the two.

    Args:
        img_from_lidar: (V, 4, 4) float64, of the cameras' variant.
        ego_from_camera_lidar: (4, 4) float64, `Frame.ego_from_lidar` of the cameras' variant.
        ego_from_lidar: (4, 4) float64, of the variant that the points are from.

    Returns:
        (V, 4, 4) float64, see `shared.data.features.Frame`.
    """
    # Both LiDAR frames are placed in the same ego frame; they may be scaled and mirrored.
    between: Matrices = np.linalg.solve(ego_from_camera_lidar, ego_from_lidar)  # (4, 4)
    projections: Matrices = img_from_lidar @ between
    return projections
