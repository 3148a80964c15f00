"""The sensors that an evaluation leaves out, and how much that changes.

An absent sensor is replaced by the frozen part's answer to its absence, which every store holds:
`shared.data.sensor_drop`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shared.config.classes import CAMERAS, LIDAR
from shared.config.preset import Preset
from shared.data.feature_store import FeatureStore
from shared.data.sensor_drop import NOTHING, Absent
from shared.errors import ConfigError
from shared.process.whole_file import whole_file
from stage2_train.evaluation.metric_tables import MEANS, markdown_table, means_of

DROPS = ("lidar", "cameras", "each-camera")
COMPARISON = "sensor_drop.md"


@dataclass(frozen=True, kw_only=True, slots=True)
class DropCondition:
    """Sensors that are absent.

    Args:
        name: of the condition and of its folder.
        absent: names of the sensors.
    """

    name: str
    absent: Absent = NOTHING

    def used(self, preset: Preset) -> Preset:
        """Return the preset without the branches that are absent, for a result's meta."""
        return replace(
            preset,
            lidar=None if LIDAR in self.absent else preset.lidar,
            camera=None if set(CAMERAS) <= set(self.absent) else preset.camera,
        )


FULL = DropCondition(name="full")


def conditions(drops: Sequence[str], store: FeatureStore) -> list[DropCondition]:
    """Return the conditions to evaluate: all sensors first, then each drop.

    Args:
        drops: among `DROPS`.
        store: to evaluate on.

    Raises:
        ConfigError: if the store does not have the sensor, or nothing would be left without it.
        CacheError: if the store has no null features.
    """
    preset = store.preset
    wanted = [FULL]
    for drop in drops:
        needed = {"lidar": (preset.lidar, preset.camera), "cameras": (preset.camera, preset.lidar)}
        dropped, left = needed.get(drop, (preset.camera, preset.camera))
        if dropped is None or left is None:
            only = "LiDAR" if preset.camera is None else "the cameras"
            raise ConfigError(
                f"--drop {drop}: {store.path} holds only features of {only} (preset "
                f"{preset.name}), so " + ("nothing would be left" if dropped else "it has none")
            )
        wanted += {
            "lidar": [DropCondition(name="no_lidar", absent=(LIDAR,))],
            "cameras": [DropCondition(name="no_cameras", absent=CAMERAS)],
            "each-camera": [
                DropCondition(name=f"no_{camera}", absent=(camera,)) for camera in CAMERAS
            ],
        }[drop]
    if len(wanted) > 1:
        _ = store.null  # fails now rather than after the first condition
    return list(dict.fromkeys(wanted))


def write_comparison(out: Path, summaries: Mapping[str, Mapping[str, Any]]) -> None:
    """Write sensor_drop.json and sensor_drop.md: the official means of every condition.

    Args:
        out: folder.
        summaries: metrics summary by name of the condition, "full" included.
    """
    full = summaries[FULL.name]
    rows, entries = [], {}
    for name, summary in summaries.items():
        means = dict(zip(MEANS, means_of(summary), strict=True))
        ratio = summary["nd_score"] / full["nd_score"] if full["nd_score"] else None
        entries[name] = {**means, "NDS_kept": ratio}
        share = "-" if ratio is None else f"{ratio:.1%}"
        rows.append((name, *(f"{value:.4f}" for value in means.values()), share))
    table = markdown_table(("condition", *MEANS, "NDS kept"), rows)
    with whole_file((out / COMPARISON).with_suffix(".json"), "w") as file:
        json.dump({"coverage": full["coverage"], "conditions": entries}, file, indent=2)
    with whole_file(out / COMPARISON, "w") as file:
        file.write(f"Evaluated: {full['coverage']}.\n\n{table}")
