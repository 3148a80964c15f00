"""Which sensors of a sample a condition touches, and how."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class SensorEdit(Enum):
    """What happens to a sensor of a sample, unless it is stuck.

    COMPUTED: the condition's functions change its data, so the backbone runs.
    ABSENT: it measures nothing; its features are the null features.
    """

    COMPUTED = "computed"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class StuckAt:
    """A sensor that delivers an earlier sample again.

    Args:
        token: an earlier sample of the same scene, whose features the sensor has.
    """

    token: str


COMPUTED, ABSENT = SensorEdit.COMPUTED, SensorEdit.ABSENT
Edit = SensorEdit | StuckAt


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleEdits:
    """The touched sensors of a sample.

    Args:
        lidar: None if untouched.
        cameras: by camera name; a camera that is not named is untouched.
    """

    lidar: Edit | None = None
    cameras: Mapping[str, Edit] = field(default_factory=dict)
