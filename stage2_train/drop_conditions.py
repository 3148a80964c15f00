"""The sensors that an evaluation takes away, and a store's samples without them.

An absent sensor is the frozen part's answer to it, which every store holds: `shared.sensor_drop`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cache.reader import CachedFeatures
from shared.classes import CAMERAS
from shared.config import Preset
from shared.errors import ConfigError
from shared.features import FrameFeatures
from shared.sensor_drop import without_cameras, without_lidar
from shared.whole_file import whole_file
from stage2_train.dataset import Place, StoreDataset
from stage2_train.metric_tables import MEANS, markdown_table, means_of

DROPS = ("lidar", "cameras", "each-camera")
COMPARISON = "sensor_drop.md"


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """Sensors that are absent.

    Args:
        name: of the condition and of its folder.
        is_without_lidar: no LiDAR point comes.
        absent_cameras: these cameras see nothing.
    """

    name: str
    is_without_lidar: bool = False
    absent_cameras: tuple[str, ...] = ()

    def used(self, preset: Preset) -> Preset:
        """Return the preset with the branches that this condition leaves, for a result's meta."""
        return replace(
            preset,
            lidar=None if self.is_without_lidar else preset.lidar,
            camera=None if set(self.absent_cameras) == set(CAMERAS) else preset.camera,
        )


FULL = Condition(name="full")


def conditions(drops: Sequence[str], store: CachedFeatures) -> list[Condition]:
    """Return the conditions to evaluate: with everything first, then each drop.

    Args:
        drops: among `DROPS`.
        store: what they will be applied to.

    Raises:
        ConfigError: if the store has not the sensor, or nothing would be left of it.
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
                f"--drop {drop}: {store.path} holds features of {only} alone (preset "
                f"{preset.name}), so " + ("nothing would be left" if dropped else "it has none")
            )
        wanted += {
            "lidar": [Condition(name="no_lidar", is_without_lidar=True)],
            "cameras": [Condition(name="no_cameras", absent_cameras=CAMERAS)],
            "each-camera": [Condition(name=f"no_{one}", absent_cameras=(one,)) for one in CAMERAS],
        }[drop]
    if len(wanted) > 1:
        _ = store.null  # says so now if there are none
    return list(dict.fromkeys(wanted))


class DroppedSamples(StoreDataset):
    """All samples of a store under a condition.

    Args:
        store: an open store.
        condition: which sensors are absent.
    """

    def __init__(self, store: CachedFeatures, condition: Condition) -> None:
        super().__init__(store, store.tokens)
        self.condition = condition
        self.null = None if condition == FULL else store.null

    def __getitem__(self, place: Place) -> FrameFeatures:
        features = super().__getitem__(place)
        if self.null is not None and self.condition.is_without_lidar:
            features = without_lidar(features, self.null)
        if self.null is not None and self.condition.absent_cameras:
            features = without_cameras(features, self.null, self.condition.absent_cameras)
        return features


def write_comparison(out: Path, summaries: Mapping[str, Mapping[str, Any]]) -> None:
    """Write sensor_drop.json and sensor_drop.md: the official means of every condition.

    Args:
        out: folder.
        summaries: condition name -> its metrics summary; "full" is among them.
    """
    full = summaries[FULL.name]
    rows, entries = [], {}
    for name, summary in summaries.items():
        means = dict(zip(MEANS, means_of(summary), strict=True))
        kept = summary["nd_score"] / full["nd_score"] if full["nd_score"] else None
        entries[name] = {**means, "NDS_kept": kept}
        share = "-" if kept is None else f"{kept:.1%}"
        rows.append((name, *(f"{value:.4f}" for value in means.values()), share))
    table = markdown_table(("condition", *MEANS, "NDS kept"), rows)
    with whole_file((out / COMPARISON).with_suffix(".json"), "w") as file:
        json.dump({"coverage": full["coverage"], "conditions": entries}, file, indent=2)
    with whole_file(out / COMPARISON, "w") as file:
        file.write(f"Evaluated: {full['coverage']}.\n\n{table}")
