"""Refuses a condition that changes LiDAR keyframes and forgets the sweeps merged into them.

Nine of ten points come from sweeps, so such a condition is hardly one. A few samples are loaded,
before any backbone runs.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shared.config.preset import LidarBranch
from shared.errors import ConfigError
from shared.process.even_samples import evenly_spaced
from stage1_extract.conditions.sample_edits import COMPUTED
from stage1_extract.nuscenes.records import SampleRecord
from stage1_extract.preprocessing.conditioned_input import ConditionedInput
from stage1_extract.preprocessing.sweeps import load_points

PROBED = 16  # samples; their 160 sweeps show a change that is drawn per file, unless it is rare


def require_changed_sweeps(
    conditioned: ConditionedInput, records: Sequence[SampleRecord], lidar: LidarBranch
) -> None:
    """Make sure that what changes keyframes changes sweeps, too.

    Args:
        conditioned: the condition.
        records: all samples.
        lidar: says which sweeps are merged.

    Raises:
        ConfigError: if in some samples the keyframe is changed, and in none a sweep.
        DatasetError: if a file cannot be read.
    """
    condition = conditioned.condition
    if condition.keyframe_only or not condition.changes_lidar:
        return
    touched = [record for record in records if conditioned.edits[record.token].lidar is COMPUTED]
    probed = [touched[place] for place in evenly_spaced(len(touched), PROBED)] if touched else []
    keyframes = sweeps = 0
    for record in probed:
        changes, files = conditioned.of(record)
        clean, changed = (
            load_points(
                files,
                lidar.sweeps,
                drop_close_points=lidar.drop_close_points,
                pad_without_sweeps=lidar.pad_without_sweeps,
                changes=applied,
            )
            for applied in (None, changes)
        )
        if not _is_same(clean[clean[:, 4] > 0], changed[changed[:, 4] > 0]):
            return
        keyframes += not _is_same(clean[clean[:, 4] == 0], changed[changed[:, 4] == 0])
        sweeps += min(len(record.sweeps), lidar.sweeps)
    if keyframes and sweeps:
        raise ConfigError(
            f"condition {condition.name} forgot the sweeps: of {len(probed)} samples "
            f"it changes the LiDAR keyframe of {keyframes}, and none of the {sweeps} sweeps that "
            "are merged into them. Change all files (`lidar_file` gets each of them), or let the "
            "condition say `keyframe_only`"
        )


def _is_same(clean: NDArray[np.float32], changed: NDArray[np.float32]) -> bool:
    return clean.shape == changed.shape and clean.tobytes() == changed.tobytes()
