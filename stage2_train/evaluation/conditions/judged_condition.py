"""The conditions of an evaluation: clean samples, absent sensors, and delta stores.

An absent sensor is replaced by the frozen part's answer to its absence, which every store holds:
`shared.data.sensor_drop`. Any other condition has been extracted into a delta store.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from shared.config.classes import CAMERAS, LIDAR
from shared.config.preset import Preset
from shared.data.feature_store import ConditionedStore, FeatureStore
from shared.data.sensor_drop import NOTHING, Absent
from shared.errors import ConfigError
from stage2_train.data.sampler import CLEAN

DROPS = ("lidar", "cameras", "each-camera")
BASELINE = "baseline"  # folder of what a second detector makes of the same conditions
RESERVED = ("clean", BASELINE, "pictures")  # names with a meaning of their own in the folder


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedCondition:
    """What is wrong with all samples of an evaluation.

    Args:
        name: of the condition and of its folder.
        family: what its severities have in common.
        severity: 1 is the mildest; None where there are no severities.
        absent: names of the sensors that are left out.
        stored: name of the condition whose delta store is read; `CLEAN` for none.
    """

    name: str
    family: str
    severity: int | None = None
    absent: Absent = NOTHING
    stored: str = CLEAN

    @property
    def key(self) -> tuple[str, int | None]:
        """What tables of different detectors know it by: severities share a name."""
        return (self.name, None) if self.severity is None else (self.family, self.severity)

    def used(self, preset: Preset) -> Preset:
        """Return the preset without the branches that are absent, for a result's meta."""
        return replace(
            preset,
            lidar=None if LIDAR in self.absent else preset.lidar,
            camera=None if set(CAMERAS) <= set(self.absent) else preset.camera,
        )


CLEAN_SAMPLES = JudgedCondition(name="clean", family="clean")


def judged_conditions(
    drops: Sequence[str], deltas: Mapping[str, ConditionedStore], store: FeatureStore
) -> list[JudgedCondition]:
    """Return the conditions to evaluate: clean samples first, then each drop, then each delta.

    Args:
        drops: among `DROPS`.
        deltas: of the store, see `stage2_train.data.conditioned_stores.by_condition`.
        store: the clean samples.

    Raises:
        ConfigError: if the store does not have a sensor to drop, or nothing would be left without
            it; if a delta's name is taken, or two claim the same severity.
        CacheError: if the store has no null features.
    """
    wanted = [CLEAN_SAMPLES]
    for drop in drops:
        _require_droppable(drop, store)
        wanted += {
            "lidar": [_dropped("lidar", (LIDAR,))],
            "cameras": [_dropped("cameras", CAMERAS)],
            "each-camera": [_dropped(camera, (camera,)) for camera in CAMERAS],
        }[drop]
    wanted = list(dict.fromkeys(wanted))
    if len(wanted) > 1:
        _ = store.null  # fails now rather than after the first condition
    taken = {*RESERVED, *(condition.name for condition in wanted)}
    for condition in _stored(deltas):
        if condition.name in taken:
            raise ConfigError(
                f"{deltas[condition.name].path}: its condition is called {condition.name}, which "
                "is the name of something else in this evaluation's folder; give the condition "
                "another name"
            )
        wanted.append(condition)
    _require_distinct(wanted)
    return wanted


def _stored(deltas: Mapping[str, ConditionedStore]) -> list[JudgedCondition]:
    """Return the conditions of deltas: families in their order, in each the mildest first."""
    about = {name: delta.condition for name, delta in deltas.items()}
    conditions = [
        JudgedCondition(name=name, family=of.family, severity=of.severity, stored=name)
        for name, of in about.items()
    ]
    families = list(dict.fromkeys(condition.family for condition in conditions))
    return sorted(conditions, key=lambda c: (families.index(c.family), c.severity or 0))


def _dropped(sensor: str, absent: Absent) -> JudgedCondition:
    return JudgedCondition(name=f"no_{sensor}", family="absent sensors", absent=absent)


def _require_droppable(drop: str, store: FeatureStore) -> None:
    preset = store.preset
    needed = {"lidar": (preset.lidar, preset.camera), "cameras": (preset.camera, preset.lidar)}
    dropped, left = needed.get(drop, (preset.camera, preset.camera))
    if dropped is None or left is None:
        only = "LiDAR" if preset.camera is None else "the cameras"
        raise ConfigError(
            f"--drop {drop}: {store.path} holds only features of {only} (preset "
            f"{preset.name}), so " + ("nothing would be left" if dropped else "it has none")
        )


def _require_distinct(conditions: Sequence[JudgedCondition]) -> None:
    """Refuse two conditions that would be one entry of a family."""
    names: dict[tuple[str, int | None], str] = {}
    for condition in conditions:
        twin = names.setdefault(condition.key, condition.name)
        if twin != condition.name:
            raise ConfigError(
                f"{twin} and {condition.name} both claim severity {condition.severity} of the "
                f"family {condition.family}, so their mean would count it twice; evaluate them in "
                "two calls"
            )
