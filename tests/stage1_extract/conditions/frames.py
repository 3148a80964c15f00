"""Frames made up by hand for conditions, and the real ones."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.config.classes import CAMERAS
from shared.data.features import Annotations
from stage1_extract.conditions.draw import Draw
from stage1_extract.nuscenes.info_files import read_infos
from stage1_extract.nuscenes.records import Camera, SampleRecord

ROOT = Path("/nuscenes")
START_US = 1_533_151_603_547_590
# x right, y down, z ahead of a camera that looks along the LiDAR's +y
LOOKS_FORWARD = np.array([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]])
INTRINSICS = np.array([[1000.0, 0, 800], [0, 1000.0, 450], [0, 0, 1]])


class Scripted(Draw):
    """Draws the numbers that a test wrote down, one after the other."""

    def __init__(self, *numbers: float) -> None:
        self.numbers = list(numbers)

    def uniform(self, *shape: int) -> NDArray[np.float64]:
        size = int(np.prod(shape, dtype=int))
        taken, self.numbers = self.numbers[:size], self.numbers[size:]
        assert len(taken) == size, "more numbers were drawn than the test wrote down"
        return np.array(taken, np.float64).reshape(shape)

    def chance(self, probability: float) -> bool:
        return bool(self.uniform(1)[0] < probability)


def boxes(*rows: list[float], points: list[int] | None = None) -> Annotations:
    """Return annotations of x, y, z, length, width, height, yaw."""
    table = np.zeros((len(rows), 9), np.float32)
    table[:, :7] = np.array(rows, np.float32).reshape(-1, 7)
    counts = np.array([1] * len(rows) if points is None else points, np.int64)
    return Annotations(
        boxes_lidar=table,
        labels=np.zeros(len(rows), np.int64),
        lidar_points=counts,
        radar_points=np.zeros(len(rows), np.int64),
    )


def record(number: int = 0, *, scene: str = "n008", step_us: int = 500_000) -> SampleRecord:
    """Return sample `number` of a recording, whose files do not exist."""
    cameras = tuple(
        Camera(
            name=name,
            file=ROOT / f"samples/{name}/{scene}__{number}.jpg",
            intrinsics=INTRINSICS,
            rotation=LOOKS_FORWARD,
            translation_m=np.zeros(3),
        )
        for name in CAMERAS
    )
    ego_from_lidar = np.eye(4)
    ego_from_lidar[:3] = [[0, 1, 0, 0.9], [-1, 0, 0, 0], [0, 0, 1, 1.8]]
    return SampleRecord(
        root=ROOT,
        token=f"{scene}-{number}",
        scene=scene,
        timestamp_us=START_US + number * step_us,
        lidar_file=ROOT / f"samples/LIDAR_TOP/{scene}__{number}.pcd.bin",
        sweeps=(),
        cameras=cameras,
        ego_from_lidar=ego_from_lidar,
        global_from_ego=np.eye(4),
        annotations=boxes(),
    )


def records(number: int) -> list[SampleRecord]:
    """Return the first samples of a recording."""
    return [record(i) for i in range(number)]


def with_boxes(frame: SampleRecord, *rows: list[float]) -> SampleRecord:
    return replace(frame, annotations=boxes(*rows))


def real_records(nuscenes_real: Path) -> list[SampleRecord]:
    """Return the five complete real frames, two of them with one sweep and one with two."""
    return read_infos(nuscenes_real / "infos" / "real_complete.v1.pkl", nuscenes_real)


def cloud(*rows: list[float]) -> NDArray[np.float32]:
    """Return points (P, 5) float32."""
    return np.array(rows, np.float32).reshape(-1, 5)
