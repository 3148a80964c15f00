"""mmdet3d info files with the mistakes that other code bases make, from good records."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from stage1_extract.nuscenes.records import SampleRecord
from tests.cases.right_infos import LABELS, Info, document

FRAME, CAMERA, BOX = 1, "CAM_BACK", 2  # where the mistakes are


@dataclass(frozen=True)
class WrongInfo:
    """A mistake in an info file.

    Args:
        change: applied to the content of a good file, in place.
        message: regular expression that the refusal matches, after the file's name.
        v2: the good file is of mmdet3d >= 1.1.
    """

    change: Callable[[Info], Any]
    message: str
    v2: bool = False

    def of(self, records: list[SampleRecord]) -> Info:
        """Return the content of the wrong file."""
        content = copy.deepcopy(document(records, self.v2))
        self.change(content)
        return content


def times(factor: float, *, keyframes: bool = True, sweeps: bool = True) -> Callable[[Info], None]:
    """Multiply the times of all frames, of either version."""

    def change(content: Info) -> None:
        for info in content.get("infos") or content["data_list"]:
            info["timestamp"] *= factor if keyframes else 1
            for sweep in info.get("sweeps", ()) or info.get("lidar_sweeps", ()):
                sweep["timestamp"] *= factor if sweeps else 1

    return change


def sweep_lag(factor: float) -> Callable[[Info], None]:
    """Multiply the distance of the sweeps in time to their keyframe."""

    def change(content: Info) -> None:
        for info in content.get("infos") or content["data_list"]:
            for sweep in info.get("sweeps", ()) or info.get("lidar_sweeps", ()):
                lag = info["timestamp"] - sweep["timestamp"]
                sweep["timestamp"] = info["timestamp"] - lag * factor

    return change


def frame(change: Callable[[Info], Any]) -> Callable[[Info], None]:
    """Apply a change to one frame, of either version."""
    return lambda content: change((content.get("infos") or content["data_list"])[FRAME])


def put(value: Any, *keys: Any) -> Callable[[Info], None]:
    """Set a nested value of one frame."""

    def change(info: Info) -> None:
        place = info
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return frame(change)


def names(change: Callable[[Any], Any]) -> Callable[[Info], None]:
    """Change the class names of all boxes of a v1 file."""

    def all_frames(content: Info) -> None:
        for info in content["infos"]:
            info["gt_names"] = np.array([change(str(name)) for name in info["gt_names"]])

    return all_frames


def transposed_pose(info: Info) -> None:
    info["lidar_points"]["lidar2ego"] = np.transpose(info["lidar_points"]["lidar2ego"]).tolist()


def reversed_sweeps(info: Info) -> None:
    info["sweeps"].reverse()


IN_FRAME = rf", frame {FRAME}: "
TIME = r", frame \d: .*timestamp .* is not in "
LAG = r", frame \d: sweep 0 \(.*pcd\.bin\) was taken .* the keyframe; expected 0\.01 to 2 s"
MIRROR = np.diag([1.0, -1.0, 1.0])
CAR_ROTATION = ("cams", CAMERA, "sensor2lidar_rotation")
INTRINSICS = rf"{IN_FRAME}camera {CAMERA}: expected intrinsics"
BOXES = rf"{IN_FRAME}1 of \d+ boxes are impossible, the first is box {BOX} \(\w+\): expected "

WRONG_INFOS = {
    "v1, seconds": WrongInfo(times(1e-6), TIME + "microseconds .*looks like seconds"),
    "v1, milliseconds": WrongInfo(times(1e-3), TIME + "microseconds .*looks like milliseconds"),
    "v1, nanoseconds": WrongInfo(times(1000), TIME + "microseconds .*looks like nanoseconds"),
    "v1, sweeps in seconds": WrongInfo(
        times(1e-6, keyframes=False), r", frame \d: sweep 0 \(.*: " + TIME[14:] + "microseconds"
    ),
    "v2, milliseconds": WrongInfo(times(1e3), TIME + "seconds .*looks like milliseconds", True),
    "v2, microseconds": WrongInfo(times(1e6), TIME + "seconds .*looks like microseconds", True),
    "v2, since the start": WrongInfo(times(1e-9), TIME + "seconds .*no time of this century", True),
    "v2, keyframes in microseconds": WrongInfo(times(1e6, sweeps=False), TIME + "seconds", True),
    "v1, sweeps after the keyframe": WrongInfo(
        sweep_lag(-1), LAG.replace(".* the", r".* s after the")
    ),
    "v2, sweeps after the keyframe": WrongInfo(
        sweep_lag(-1), LAG.replace(".* the", r".* s after the"), True
    ),
    "v1, sweeps at the keyframe": WrongInfo(sweep_lag(0), LAG),
    "v1, lags in thousandths": WrongInfo(sweep_lag(1e-3), LAG),
    "v2, lags times 100": WrongInfo(sweep_lag(100), LAG, True),
    "v1, oldest sweep first": WrongInfo(frame(reversed_sweeps), IN_FRAME + "sweep 1 .*newer than"),
    "unknown names": WrongInfo(
        names(lambda name: f"my {name}"), r": \d+ of \d+ boxes have names that are no class: 'my "
    ),
    "v2, unknown categories": WrongInfo(
        lambda content: content["metainfo"].update(
            categories={f"my {name}": label for name, label in LABELS.items()}
        ),
        r": \d+ of \d+ boxes have names that are no class: 'my ",
        True,
    ),
    "v2, a label without a name": WrongInfo(
        put(77, "instances", BOX, "bbox_label_3d"), IN_FRAME + r"boxes have the labels \[77\]", True
    ),
    "a width of 0": WrongInfo(put(0.0, "gt_boxes", (BOX, 4)), BOXES + "sizes above 0 and .*, got"),
    "a negative length": WrongInfo(
        put(-4.0, "gt_boxes", (BOX, 3)), BOXES + "sizes above 0 and .*, got -4"
    ),
    "a NaN height": WrongInfo(
        put(np.nan, "gt_boxes", (BOX, 5)), BOXES + "sizes above 0 and .*, got .*nan"
    ),
    "sizes in centimetres": WrongInfo(put(450.0, "gt_boxes", (BOX, 3)), BOXES + "sizes above 0"),
    "a NaN position": WrongInfo(
        put(np.nan, "gt_boxes", (BOX, 0)), BOXES + "centre within .*got nan"
    ),
    "a position on the map": WrongInfo(
        put(1853.0, "gt_boxes", (BOX, 1)), BOXES + "centre within 500 m"
    ),
    "an infinite yaw": WrongInfo(
        put(np.inf, "gt_boxes", (BOX, 6)), BOXES + "a yaw in radians, got inf"
    ),
    "an infinite velocity": WrongInfo(
        put(np.inf, "gt_velocity", (BOX, 0)), BOXES + "velocities in"
    ),
    "v2, a NaN height": WrongInfo(
        put(float("nan"), "instances", BOX, "bbox_3d", 5),
        BOXES + "sizes above 0 and",
        True,
    ),
    "intrinsics of zeros": WrongInfo(
        put(np.zeros((3, 3)), "cams", CAMERA, "cam_intrinsic"), INTRINSICS
    ),
    "v2, intrinsics of zeros": WrongInfo(
        put(np.zeros((3, 3)).tolist(), "images", CAMERA, "cam2img"), INTRINSICS, True
    ),
    "intrinsics of the unit matrix": WrongInfo(
        put(np.eye(3), "cams", CAMERA, "cam_intrinsic"), INTRINSICS
    ),
    "a NaN focal length": WrongInfo(
        put(np.nan, "cams", CAMERA, "cam_intrinsic", (0, 0)), INTRINSICS
    ),
    "a camera without rotation": WrongInfo(
        put(np.zeros((3, 3)), *CAR_ROTATION), rf"{IN_FRAME}camera {CAMERA} to LiDAR: expected a rot"
    ),
    "a mirrored camera": WrongInfo(
        put(MIRROR, *CAR_ROTATION), rf"{IN_FRAME}camera {CAMERA} to LiDAR: expected a rotation"
    ),
    "a scaled camera": WrongInfo(
        put(1.01 * np.eye(3), *CAR_ROTATION), rf"{IN_FRAME}camera {CAMERA} to LiDAR: expected a"
    ),
    "a NaN in a sweep's pose": WrongInfo(
        put(np.nan, "sweeps", 1, "sensor2lidar_translation", 0),
        IN_FRAME + "sweep 1 to LiDAR: .*nan",
    ),
    "a camera in millimetres": WrongInfo(
        put(np.array([0.0, 0, 1500]), "cams", CAMERA, "sensor2lidar_translation"),
        rf"{IN_FRAME}camera {CAMERA} to LiDAR: expected a translation within 100 m",
    ),
    "a quaternion of zeros": WrongInfo(
        put([0.0] * 4, "ego2global_rotation"), IN_FRAME + r"the rotation .* norm 0, expected a quat"
    ),
    "a lost ego position": WrongInfo(
        put([np.nan, 0, 0], "ego2global_translation"), IN_FRAME + "ego to global: the translation"
    ),
    "v2, a transposed pose": WrongInfo(
        frame(transposed_pose), IN_FRAME + "a pose ends with the row .*transposed", True
    ),
    "v2, a pose of zeros": WrongInfo(
        put(np.diag([0.0, 0, 0, 1]).tolist(), "ego2global"),
        IN_FRAME + "ego to global: expected a",
        True,
    ),
}
CATEGORY = {
    "car": "vehicle.car",
    "truck": "vehicle.truck",
    "construction_vehicle": "vehicle.construction",
    "bus": "vehicle.bus.rigid",
    "trailer": "vehicle.trailer",
    "barrier": "movable_object.barrier",
    "motorcycle": "vehicle.motorcycle",
    "bicycle": "vehicle.bicycle",
    "pedestrian": "human.pedestrian.adult",
    "traffic_cone": "movable_object.trafficcone",
}
DIALECTS = {
    "capitalised": names(str.capitalize),
    "upper case": names(str.upper),
    "bytes": names(str.encode),
    "spaces": names(lambda name: name.replace("_", " ").title()),
    "joined": names(lambda name: name.replace("_", "").title()),
    "categories": names(lambda name: CATEGORY.get(name, name)),
    "categories as bytes": names(lambda name: CATEGORY.get(name, name).encode()),
}
