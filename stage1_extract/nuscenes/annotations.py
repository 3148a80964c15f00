"""Ground truth boxes: from either reader's numbers to `shared.data.features.Annotations`."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.config.classes import CLASS_NAMES, OTHER_CLASS
from shared.data.features import Annotations

# Upstream: mmdet3d's `NuScenesNameMapping`; every other category keeps its own name there.
CLASS_OF_CATEGORY = {
    "movable_object.barrier": "barrier",
    "vehicle.bicycle": "bicycle",
    "vehicle.bus.bendy": "bus",
    "vehicle.bus.rigid": "bus",
    "vehicle.car": "car",
    "vehicle.construction": "construction_vehicle",
    "vehicle.motorcycle": "motorcycle",
    "human.pedestrian.adult": "pedestrian",
    "human.pedestrian.child": "pedestrian",
    "human.pedestrian.construction_worker": "pedestrian",
    "human.pedestrian.police_officer": "pedestrian",
    "movable_object.trafficcone": "traffic_cone",
    "vehicle.trailer": "trailer",
    "vehicle.truck": "truck",
}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BoxTable:
    """The boxes of a frame as a reader delivers them.

    Args:
        boxes_lidar: (n, 9) float64, columns of `Annotations.boxes_lidar` (other conventions only
            briefly, inside `info_files`).
        names: n class names; a name that is not in `CLASS_NAMES` becomes `OTHER_CLASS`.
        lidar_points, radar_points: (n,) int64.
    """

    boxes_lidar: NDArray[np.float64]
    names: tuple[str, ...]
    lidar_points: NDArray[np.int64]
    radar_points: NDArray[np.int64]


NO_BOXES = BoxTable(
    boxes_lidar=np.zeros((0, 9)),
    names=(),
    lidar_points=np.zeros(0, np.int64),
    radar_points=np.zeros(0, np.int64),
)


def annotations_of(table: BoxTable) -> Annotations:
    """Round boxes to float32 as official CMT does; keep all of them, and NaN velocities.

    Upstream: LiDARInstance3DBoxes goes from the centre to the bottom and back in float32, which
    changes some z by one float32 step. Filters (points, classes, range) belong to training.
    """
    boxes = table.boxes_lidar.astype(np.float32)
    half_height = boxes[:, 5] * np.float32(0.5)
    boxes[:, 2] = (boxes[:, 2] - half_height) + half_height
    labels = [CLASS_NAMES.index(n) if n in CLASS_NAMES else OTHER_CLASS for n in table.names]
    return Annotations(
        boxes_lidar=boxes,
        labels=np.array(labels, dtype=np.int64),
        lidar_points=table.lidar_points,
        radar_points=table.radar_points,
    )
