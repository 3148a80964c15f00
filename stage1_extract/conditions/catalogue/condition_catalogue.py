"""Every condition of ours by name, and how a user's own one is loaded."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from shared.config.named_config import named_config
from shared.digests import file_digest
from stage1_extract.conditions.condition import Condition
from stage1_extract.conditions.lidar.beams import evenly_spaced_rings, keep_rings


def beams_even(beams: int, severity: int) -> Condition:
    """Keep 16, 8 or 4 evenly spaced rings of every LiDAR file."""
    rings = evenly_spaced_rings(beams)
    return Condition(
        name=f"beams-{beams}-even",
        family="beams-even",
        severity=severity,
        source="MultiCorrupt, converter/lidar.py, beam reduction",
        parameters={"rings": list(rings)},
        lidar_file=lambda points, draw: keep_rings(points, rings),
    )


CATALOGUE: Mapping[str, Callable[[], Condition]] = {
    f"beams-{beams}-even": partial(beams_even, beams, severity)
    for severity, beams in enumerate((16, 8, 4), start=1)
}


def load_condition(ref: str) -> Condition:
    """Return the condition called `ref`, or what `path/to/file.py:function` returns.

    Raises:
        ConfigError: if there is no such condition.
    """
    condition = named_config(Condition, ref, CATALOGUE)
    if ref in CATALOGUE:
        return condition
    return replace(condition, user_file=file_digest(Path(ref.rpartition(":")[0])))
