"""A condition: a deterministic change of raw data, as a sensor fault or bad weather would cause.

P points. Functions draw random numbers from the `Draw` that they are given, or from the one that
`Condition.draw` makes for a sample and sensor, and from nothing else.
Whoever applies a condition calls `apply_condition`, which checks what its functions return.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import ConfigError
from stage1_extract.conditions.draw import Draw
from stage1_extract.conditions.sample_edits import SampleEdits
from stage1_extract.nuscenes.records import Camera, SampleRecord

Points = NDArray[np.float32]
Pixels = NDArray[np.uint8]

NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Condition:
    """What is done to raw data, and whose definition it is.

    Args:
        name: says whose definition it is where definitions differ ("beams-4-even"); lower case,
            digits and hyphens, since it is part of file names.
        family: what random numbers depend on instead of the name, so that severities nest.
        severity: 1 is mildest; None if the source has none.
        source: publication or repository, and what differs from it.
        parameters: numbers and texts that tell it from others of the family; part of the identity.
        revision: raised whenever the condition comes to do something else, as after a corrected
            fault. Part of the identity, so a delta of an earlier revision can be read, since it
            says what it is, but not be continued or checked for parity; extract it again. Revision
            1 adds nothing to the identity: deltas that were made before there were revisions count
            as it.
        seed: of the random numbers.
        may_change_nothing: it is meant to leave features as they are, at least for some data.
        keyframe_only: it is meant to leave earlier sweeps alone.
        lidar_file: changes (P, 5) float32 points of a raw file, keyframe or sweep, in its own
            frame: x y z in metres, intensity, ring; drawn per file.
        merged_points: changes (P, 5) float32 points of keyframe and sweeps in the keyframe's LiDAR
            frame, column 4 the time lag in seconds; drawn per sample.
        image: changes (H, W, 3) uint8 BGR pixels of a JPEG; drawn per sample and camera.
        image_with_points: the same, with the (P, 5) raw points of the keyframe's LiDAR file and the
            camera, whose pose is in the keyframe's LiDAR frame.
        camera_poses: gets a record and the condition, returns the record with edited calibration.
        edits: gets all samples at hand and the condition, says which sensors of each sample are
            touched. None: every sensor that a function above concerns, in every sample.
        user_file: SHA-256 of a user's file, which tells its changes; `load_condition` sets it.

    Raises:
        ConfigError: if the name does not fit, severity or revision is below 1, parameters are not
            JSON, or it does nothing.
    """

    name: str
    family: str
    severity: int | None = None
    source: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    revision: int = 1
    seed: int = 0
    may_change_nothing: bool = False
    keyframe_only: bool = False
    lidar_file: Callable[[Points, Draw], Points] | None = None
    merged_points: Callable[[Points, SampleRecord, Draw], Points] | None = None
    image: Callable[[Pixels, Draw], Pixels] | None = None
    image_with_points: Callable[[Pixels, Points, Camera, Draw], Pixels] | None = None
    camera_poses: Callable[[SampleRecord, "Condition"], SampleRecord] | None = None
    edits: Callable[[Sequence[SampleRecord], "Condition"], Sequence[SampleEdits]] | None = None
    user_file: str | None = None

    def __post_init__(self) -> None:
        where = f"condition {self.name!r}"
        if not NAME.fullmatch(self.name):
            raise ConfigError(
                f"{where}: a name is lower-case letters, digits and single hyphens between them, "
                "since files are called by it; rename it"
            )
        if self.severity is not None and self.severity < 1:
            raise ConfigError(f"{where}: severity is {self.severity}, the mildest is 1")
        if self.revision < 1:
            raise ConfigError(f"{where}: revision is {self.revision}, the first is 1")
        try:
            json.dumps(dict(self.parameters), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"{where}: its parameters are stored as JSON and cannot be ({error}); use plain "
                "numbers, texts, lists and dicts"
            ) from error
        if self.image is not None and self.image_with_points is not None:
            raise ConfigError(f"{where} has both image and image_with_points; join them in one")
        if not (self.changes_lidar or self.changes_images or self.camera_poses or self.edits):
            raise ConfigError(
                f"{where} does nothing; give it one of lidar_file, merged_points, image, "
                "image_with_points, camera_poses, edits"
            )

    @property
    def changes_lidar(self) -> bool:
        """Whether a function changes points, so that the LiDAR backbone must run."""
        return self.lidar_file is not None or self.merged_points is not None

    @property
    def changes_images(self) -> bool:
        """Whether a function changes pixels, so that the camera backbone must run."""
        return self.image is not None or self.image_with_points is not None

    @property
    def identity(self) -> dict[str, Any]:
        """What tells its results from those of any other condition, as JSON."""
        return {
            "name": self.name,
            "family": self.family,
            "severity": self.severity,
            "parameters": dict(self.parameters),
            "seed": self.seed,
            "user_file": self.user_file,
            **({"revision": self.revision} if self.revision > 1 else {}),
        }

    def draw(self, subject: str, sensor: str) -> Draw:
        """Return the random numbers for a sample token or LiDAR file, and a sensor."""
        return Draw(self.seed, self.family, subject, sensor)
