"""Ground truth boxes: from either reader's numbers to `shared.data.features.Annotations`."""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.config.classes import CLASS_NAMES, OTHER_CLASS
from shared.data.features import Annotations
from shared.errors import DatasetError

logger = logging.getLogger(__name__)

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
# The categories of nuScenes that are no detection class, and what converters write for them.
CATEGORIES_WITHOUT_CLASS = (
    *("animal", "movable_object.debris", "movable_object.pushable_pullable"),
    *("human.pedestrian.personal_mobility", "human.pedestrian.stroller"),
    *("human.pedestrian.wheelchair", "static_object.bicycle_rack"),
    *("vehicle.emergency.ambulance", "vehicle.emergency.police"),
    *("ignore", "other"),
)
# Share of boxes with unknown names. The rarest class, bicycle, has 1% of the boxes of nuScenes.
MOST_UNKNOWN = 0.005


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BoxTable:
    """The boxes of a frame as a reader delivers them.

    Args:
        boxes_lidar: (n, 9) float64, columns of `Annotations.boxes_lidar` (other conventions only
            briefly, inside `info_files`).
        names: n names as `class_name` returns them; all but `CLASS_NAMES` become `OTHER_CLASS`.
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


def _spelling(name: str) -> str:
    return name.strip().lower().replace("_", "").replace("-", "").replace(" ", "")


_BY_SPELLING = {
    **{_spelling(name): name for name in (*CLASS_NAMES, *CATEGORIES_WITHOUT_CLASS)},
    **{_spelling(category): name for category, name in CLASS_OF_CATEGORY.items()},
}


def class_name(name: object) -> str:
    """Return the detection class of a name in any dialect, or the name if it has none.

    Known are class names ("car"), nuScenes categories ("vehicle.car"), both as bytes, and both in
    any spelling ("Traffic Cone"); unknown names come back as they are.
    """
    text = name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
    return _BY_SPELLING.get(_spelling(text), text)


def refuse_unknown_names(counts: Mapping[str, int], source: str) -> None:
    """Log unknown class names, and refuse them where they are more than `MOST_UNKNOWN`.

    Args:
        counts: boxes by name, names as `class_name` returns them.
        source: what the boxes come from, for messages.

    Raises:
        DatasetError: if so many boxes would silently become `OTHER_CLASS`.
    """
    known = set(_BY_SPELLING.values())
    unknown = Counter({name: count for name, count in counts.items() if name not in known})
    if not unknown:
        return
    boxes, total = sum(unknown.values()), sum(counts.values())
    listed = ", ".join(f"{name!r} ({count})" for name, count in unknown.most_common(8))
    message = f"{source}: {boxes} of {total} boxes have names that are no class: {listed}"
    if boxes > MOST_UNKNOWN * total:
        raise DatasetError(
            f"{message}. Expected detection classes ({', '.join(CLASS_NAMES)}) or nuScenes "
            f"categories (vehicle.car, ...), at most {MOST_UNKNOWN:.1%} unknown, since boxes of "
            'unknown names are not trained on. Rename them, to "ignore" if that is meant'
        )
    logger.warning("%s; these boxes are not trained on", message)


def annotations_of(table: BoxTable) -> Annotations:
    """Round boxes to float32 as official CMT does; keep all of them, and NaN velocities.

    A zero has no sign: that of a turned velocity of 0 is left to the order of the sum.

    Upstream: LiDARInstance3DBoxes goes from the centre to the bottom and back in float32, which
    changes some z by one float32 step. Filters (points, classes, range) belong to training.
    """
    boxes = table.boxes_lidar.astype(np.float32) + np.float32(0.0)
    half_height = boxes[:, 5] * np.float32(0.5)
    boxes[:, 2] = (boxes[:, 2] - half_height) + half_height
    labels = [CLASS_NAMES.index(n) if n in CLASS_NAMES else OTHER_CLASS for n in table.names]
    return Annotations(
        boxes_lidar=boxes,
        labels=np.array(labels, dtype=np.int64),
        lidar_points=table.lidar_points,
        radar_points=table.radar_points,
    )
