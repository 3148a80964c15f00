"""From the edits of a condition to the plan of a delta store."""

from collections.abc import Sequence

from cache.delta.delta_plan import ABSENT, BASE, ROW, STUCK, DeltaPlan, SensorPlan
from shared.config.classes import CAMERAS, LIDAR
from shared.config.preset import Preset
from stage1_extract.conditions.sample_edits import COMPUTED, Edit, SampleEdits, StuckAt
from stage1_extract.nuscenes.records import SampleRecord
from stage1_extract.preprocessing.conditioned_input import ConditionedInput


def plan_of_condition(
    conditioned: ConditionedInput, records: Sequence[SampleRecord], preset: Preset, variants: int
) -> DeltaPlan:
    """Return where the features of every sensor come from.

    A stuck sensor has the features of an earlier sample as recorded. An augmented copy of that
    sample was augmented in a different way, so in a base with variants a stuck sensor is a row.

    Args:
        conditioned: the condition.
        records: all samples of the base, in its order.
        preset: of the base; sensors that it lacks do not count.
        variants: of the base.

    Raises:
        DatasetError: if a sensor is stuck at a sample that is not an earlier one.
    """
    sensors = [*([LIDAR] if preset.lidar else []), *(CAMERAS if preset.camera else ())]
    positions = {record.token: place for place, record in enumerate(records)}
    edits = [conditioned.edits[record.token] for record in records]
    for record, edit in zip(records, edits, strict=True):
        if any(isinstance(_edit(edit, sensor), StuckAt) for sensor in sensors):
            conditioned.of(record)  # an error if it cannot be stuck there
    plans = {}
    for sensor in sensors:
        of_sensor = [_edit(edit, sensor) for edit in edits]
        letters = "".join(_letter(edit, variants) for edit in of_sensor)
        if set(letters) != {BASE}:
            stuck_at = {
                place: positions[edit.token]
                for place, edit in enumerate(of_sensor)
                if isinstance(edit, StuckAt) and letters[place] == STUCK
            }
            plans[sensor] = SensorPlan(letters=letters, stuck_at=stuck_at)
    return DeltaPlan(
        samples=len(records),
        sensors=plans,
        has_geometry=preset.camera is not None and conditioned.condition.camera_poses is not None,
    )


def _edit(edits: SampleEdits, sensor: str) -> Edit | None:
    return edits.lidar if sensor == LIDAR else edits.cameras.get(sensor)


def _letter(edit: Edit | None, variants: int) -> str:
    if edit is None:
        return BASE
    if isinstance(edit, StuckAt):
        return STUCK if variants == 1 else ROW
    return ROW if edit is COMPUTED else ABSENT
