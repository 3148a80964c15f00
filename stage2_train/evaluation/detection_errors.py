"""Which true boxes a detector found and which it missed, box by box, in the LiDAR frame.

n true boxes, m detections of a sample.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

MATCH_M = 2.0  # distance of centres within which nuScenes measures errors
MIN_SCORE = 0.25  # detections below it are ignored, as in plot-samples


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleErrors:
    """A sample's true boxes and detections, and which of them match.

    Args:
        token: of the sample.
        scene: its scene's name.
        ego_xy_m: (2,) the ego vehicle in the LiDAR frame, from which nuScenes measures distance.
        true_boxes, found_boxes: (n, 5) and (m, 5): x, y, length, width in metres, yaw; LiDAR frame.
        is_found: (n,) bool, a detection matches the true box.
        is_true: (m,) bool, the detection matches a true box.
    """

    token: str
    scene: str
    ego_xy_m: NDArray[np.float64]
    true_boxes: NDArray[np.float64]
    found_boxes: NDArray[np.float64]
    is_found: NDArray[np.bool_]
    is_true: NDArray[np.bool_]

    @property
    def errors(self) -> int:
        """Missed boxes and false positives."""
        return int((~self.is_found).sum() + (~self.is_true).sum())


def sample_errors(tables: Any, truth: Any, detections: Any, token: str) -> SampleErrors:
    """Match one sample's detections as nuscenes-devkit does, within classes, best score first.

    Args:
        tables: opened nuScenes tables.
        truth: the devkit's `EvalBoxes` of ground truth, filtered.
        detections: the same of detections.
        token: of the sample.
    """
    true = truth[token]
    detected = [box for box in detections[token] if box.detection_score >= MIN_SCORE]
    is_found = np.zeros(len(true), bool)
    is_true = np.zeros(len(detected), bool)
    # Reversed, as in the devkit, which takes the later of two equal scores first.
    scores = [(box.detection_score, i) for i, box in enumerate(detected)]
    for _, i in sorted(scores, reverse=True):
        free = [
            (_distance_m(detected[i], box), j)
            for j, box in enumerate(true)
            if box.detection_name == detected[i].detection_name and not is_found[j]
        ]
        distance_m, closest = min(free, default=(np.inf, -1))
        if distance_m < MATCH_M:
            is_true[i] = is_found[closest] = True
    rotation, translation_m, ego_xy_m = _lidar_from_global(tables, token)
    scene = tables.get("scene", tables.get("sample", token)["scene_token"])
    return SampleErrors(
        token=token,
        scene=scene["name"],
        ego_xy_m=ego_xy_m,
        true_boxes=_flat(true, rotation, translation_m),
        found_boxes=_flat(detected, rotation, translation_m),
        is_found=is_found,
        is_true=is_true,
    )


def worst(samples: Sequence[SampleErrors], count: int) -> list[SampleErrors]:
    """Return the samples with the most errors, the worst first."""
    return sorted(samples, key=lambda sample: sample.errors, reverse=True)[:count]


def _distance_m(box: Any, true_box: Any) -> float:
    return math.dist(box.translation[:2], true_box.translation[:2])


def _lidar_from_global(
    tables: Any, token: str
) -> tuple[Rotation, NDArray[np.float64], NDArray[np.float64]]:
    """Return rotation and translation into the LiDAR frame, and the ego vehicle's place in it."""
    keyframe = tables.get("sample_data", tables.get("sample", token)["data"]["LIDAR_TOP"])
    pose = tables.get("ego_pose", keyframe["ego_pose_token"])
    sensor = tables.get("calibrated_sensor", keyframe["calibrated_sensor_token"])
    global_from_ego = _rotation(pose["rotation"])
    ego_from_lidar = _rotation(sensor["rotation"])
    lidar_from_ego = ego_from_lidar.inv()
    rotation = lidar_from_ego * global_from_ego.inv()
    ego_m = -lidar_from_ego.apply(sensor["translation"])
    return rotation, ego_m - rotation.apply(pose["translation"]), ego_m[:2]


def _rotation(wxyz: Sequence[Any]) -> Rotation:
    """Return nuScenes quaternions as a rotation; scipy puts w last."""
    return Rotation.from_quat(np.roll(wxyz, -1, axis=-1))


def _flat(
    boxes: Sequence[Any], rotation: Rotation, translation_m: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the devkit's boxes from above, (n, 5) as in `SampleErrors`."""
    if not boxes:
        return np.zeros((0, 5))
    centres = rotation.apply([box.translation for box in boxes]) + translation_m  # (n, 3)
    sizes = np.array([box.size for box in boxes])  # (n, 3) width, length, height
    ahead = (rotation * _rotation([box.rotation for box in boxes])).apply([1, 0, 0])  # (n, 3)
    yaws = np.arctan2(ahead[:, 1], ahead[:, 0])
    return np.column_stack([centres[:, :2], sizes[:, 1], sizes[:, 0], yaws])
