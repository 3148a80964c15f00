"""What stage 1 knows about a nuScenes frame before opening its sensor files.

`nuscenes_tables` and `info_files` both make `SampleRecord`s; later code cannot tell them apart.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.data.features import Annotations
from shared.errors import DatasetError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sweep:
    """A LiDAR sweep before the keyframe, and where it was taken.

    Args:
        file: absolute path.
        timestamp_us: microseconds since the epoch.
        rotation: (3, 3) float64, sweep to keyframe LiDAR: point @ rotation.T + translation_m.
        translation_m: (3,) float64, metres, keyframe LiDAR frame.
    """

    file: Path
    timestamp_us: int
    rotation: NDArray[np.float64]
    translation_m: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Camera:
    """One camera image of a keyframe.

    Args:
        name: one of `shared.config.classes.CAMERAS`.
        file: absolute path.
        intrinsics: (3, 3) float64, pixels of the JPEG as recorded.
        rotation: (3, 3) float64, camera to keyframe LiDAR, including the ego motion between them.
        translation_m: (3,) float64, position of the camera, metres, keyframe LiDAR frame.
    """

    name: str
    file: Path
    intrinsics: NDArray[np.float64]
    rotation: NDArray[np.float64]
    translation_m: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SampleRecord:
    """One keyframe: its files, calibration, poses and ground truth.

    Args:
        root: absolute path of the dataset; every file is below it.
        token: nuScenes sample token.
        scene: the recording the frame belongs to, see `recording_of`.
        timestamp_us: time of the LiDAR keyframe, microseconds since the epoch.
        lidar_file: absolute path of the keyframe's points.
        sweeps: previous sweeps, newest first; of the tables at most `MAX_SWEEPS`.
        cameras: six, in the order of `shared.config.classes.CAMERAS`.
        ego_from_lidar: (4, 4) float64, metres.
        global_from_ego: (4, 4) float64, metres, at the time of the LiDAR keyframe.
        annotations: every box of the frame, LiDAR frame; none in a test split.
    """

    root: Path
    token: str
    scene: str
    timestamp_us: int
    lidar_file: Path
    sweeps: tuple[Sweep, ...]
    cameras: tuple[Camera, ...]
    ego_from_lidar: NDArray[np.float64]
    global_from_ego: NDArray[np.float64]
    annotations: Annotations

    @property
    def keyframe_files(self) -> tuple[Path, ...]:
        """The LiDAR file and the six images."""
        return (self.lidar_file, *(camera.file for camera in self.cameras))

    def relative(self, file: Path) -> str:
        """Return a file's path below the dataset root, which is the same on every machine."""
        return file.relative_to(self.root).as_posix()

    def lag_s(self, sweep: Sweep) -> np.float32:
        """Return by how many seconds a sweep is older than the keyframe.

        Upstream: the difference of two float64 epoch seconds, so quantised to 2.4e-7 s.
        """
        return np.float32(self.timestamp_us / 1e6 - sweep.timestamp_us / 1e6)


@contextmanager
def naming_sample(record: SampleRecord) -> Iterator[None]:
    """Name the sample in whose files a fault is found."""
    try:
        yield
    except DatasetError as fault:
        raise DatasetError(f"sample {record.token}: {fault}") from fault


def recording_of(lidar_file: Path) -> str:
    """Return the recording a file belongs to, "n008-2018-08-01-15-16-36-0400" for example.

    It is the file name up to the first "__", the nuScenes log. Info files have no scene tokens, but
    every reader has this name; frames of one scene share it (a recording holds several scenes).
    """
    return lidar_file.name.partition("__")[0]


def arrange(
    records: Iterable[SampleRecord], *, existing_only: bool, source: str
) -> list[SampleRecord]:
    """Sort records by time and, if asked, keep only those whose files exist.

    Args:
        records: in any order.
        existing_only: drop samples that lack a keyframe file, and sweeps whose file is missing;
            what was dropped is logged. Otherwise a missing file is an error once it is read.
        source: what the records come from, for messages.

    Raises:
        DatasetError: if no sample remains, or a token occurs twice.

    Source: mmdet3d, `NuScenesDataset.load_annotations` sorts by timestamp; the token breaks ties.
    """
    ordered = sorted(records, key=lambda record: (record.timestamp_us, record.token))
    counts = Counter(record.token for record in ordered)
    repeated = [token for token, count in counts.items() if count > 1]
    if repeated:
        raise DatasetError(
            f"{source}: {len(repeated)} sample tokens occur more than once, the first is "
            f"{repeated[0]}; a store holds each sample once, so remove the duplicates"
        )
    if not ordered:
        raise DatasetError(f"{source} holds no samples; choose a different split or file")
    return _existing(ordered, source) if existing_only else ordered


def _existing(records: list[SampleRecord], source: str) -> list[SampleRecord]:
    complete = []
    first_missing: Path | None = None
    dropped_sweeps = 0
    for record in records:
        missing = [file for file in record.keyframe_files if not file.is_file()]
        if missing:
            first_missing = first_missing or missing[0]
            continue
        sweeps = tuple(sweep for sweep in record.sweeps if sweep.file.is_file())
        dropped_sweeps += len(record.sweeps) - len(sweeps)
        complete.append(replace(record, sweeps=sweeps))
    if not complete:
        raise DatasetError(
            f"{source}: none of {len(records)} samples has both its LiDAR file and its six images; "
            f"the first missing file is {first_missing}. Is the dataset root correct?"
        )
    if len(complete) < len(records) or dropped_sweeps:
        logger.warning(
            "%s: kept %d of %d samples (the others lack a file, the first is %s); "
            "%d sweeps of the kept samples are missing",
            source,
            len(complete),
            len(records),
            first_missing,
            dropped_sweeps,
        )
    return complete
