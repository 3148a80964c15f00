"""Stored samples as training takes them: annotations filtered, some sensors left out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from shared.data.feature_store import SampleReader
from shared.data.features import Frame, FrameFeatures, MapValues
from shared.data.sensor_drop import Absent, fill_absent, is_replaced, require_remaining
from shared.data.targets import trainable_annotations
from stage2_train.data.sampler import Place


class StoreDataset:
    """Samples of a store by place, with the annotations that training uses.

    Args:
        store: an open store.
        tokens: the samples; a place counts from the first of them.
    """

    def __init__(self, store: SampleReader, tokens: Sequence[str]) -> None:
        self.store = store
        self.tokens = tuple(tokens)
        self.blank_maps = store.blank_maps
        self._null: FrameFeatures | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def null(self) -> FrameFeatures:
        """The frozen part's answer to absent sensors, read once.

        Raises:
            CacheError: if the store has none; the message says how to add them.
        """
        if self._null is None:
            self._null = self.store.null
        return self._null

    def require_droppable(self, possible: Iterable[Absent]) -> None:
        """Check, before anything is read, that samples can do without these sensors.

        Args:
            possible: sets of sensors that may be absent together, as `SensorDrop.possible`.

        Raises:
            CacheError: if the store has no null features.
            ConfigError: if the preset lacks such a sensor, or has no other.
        """
        for absent in possible:
            require_remaining(absent, self.store.preset)
        _ = self.null  # read here, and not by several threads at once

    def read(self, place: Place, maps: Mapping[str, MapValues]) -> Frame:
        """Read one sample, without the sensors that its place leaves out.

        Args:
            place: of the sample.
            maps: arrays like those of `blank_maps`, to be filled.

        Returns:
            Its geometry, and the annotations that CMT trains on.

        Raises:
            CacheError: if the sample is missing or damaged.
        """
        stored = {
            name: values for name, values in maps.items() if not is_replaced(name, place.absent)
        }
        token = self.tokens[place.sample]
        frame = self.store.read_into(stored, token, place.variant, place.camera_variant)
        if place.absent:
            fill_absent(maps, self.null, place.absent)
        annotations = trainable_annotations(frame.annotations, self.store.preset.grid)
        return replace(frame, annotations=annotations)
