"""Samples as the stores inside a delta need them: loaded once for all their rows in a shard."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from shared.config.augmentation import VariantDraws
from shared.config.classes import LIDAR
from shared.config.preset import Preset
from shared.data.features import Sources
from stage1_extract.nuscenes.records import SampleRecord
from stage1_extract.preprocessing.conditioned_input import ConditionedInput
from stage1_extract.preprocessing.raw_frames import RawFrame, RawFrames


class DeltaFrames(RawFrames):
    """Samples under a condition, by the place of the rows that they give.

    Args:
        records: all samples of the base.
        preset: of the base, with the branch alone that these rows are of.
        variants: of the base.
        conditioned: the condition.
        rows: position of a sample and sensor, for every row of a store, in its order.
        slots: rows of a shard.
    """

    def __init__(
        self,
        records: Sequence[SampleRecord],
        preset: Preset,
        variants: VariantDraws | None,
        conditioned: ConditionedInput,
        *,
        rows: Sequence[tuple[int, str]],
        slots: int,
    ) -> None:
        super().__init__(records, preset, variants, conditioned)
        grouped = groupby(enumerate(rows), key=lambda row: (row[0] // slots, row[1][0]))
        self._groups = [[(first, *row) for first, row in group] for _, group in grouped]
        self._starts = [group[0][0] for group in self._groups]

    def __len__(self) -> int:
        return len(self._groups)

    def places(self, start: int, stop: int) -> range:
        """Return the places of the samples that give the rows from `start` to before `stop`."""
        return range(bisect_left(self._starts, start), bisect_left(self._starts, stop))

    def load(self, number: int, index: int, camera_number: int | None = None) -> RawFrame:
        """Load a sample, and say which of its sensors are rows.

        Args:
            number: its variant.
            index: its place, see `places`.
            camera_number: unused, since a row has sensors of one kind.
        """
        group = self._groups[index]
        place = group[0][1]
        raw = super().load(number, place)
        rows = {sensor: self._sources(raw, place, sensor) for _, _, sensor in group}
        return replace(raw, rows=rows)

    def _sources(self, raw: RawFrame, place: int, sensor: str) -> Sources:
        """Return the files that a row was made from: not those of other views."""
        if sensor == LIDAR:
            return raw.sources
        assert self.conditioned is not None
        _, record = self.conditioned.of(self.records[place])
        foreign = {record.relative(view.file) for view in record.cameras if view.name != sensor}
        files = raw.sources["camera"]
        return {"camera": tuple(file for file in files if file.name not in foreign)}
