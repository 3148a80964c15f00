"""Stored samples as training takes them: filtered annotations, some under conditions or blinded."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from shared.data.feature_store import FeatureStore, SampleReader
from shared.data.features import Frame, FrameFeatures, MapValues
from shared.data.sensor_drop import Absent, fill_absent, is_replaced, require_remaining
from shared.data.targets import trainable_annotations
from shared.digests import json_digest
from stage2_train.data.sampler import CLEAN, Place


class StoreDataset:
    """Samples of a store by place, with the annotations that training uses.

    Args:
        store: an open store.
        tokens: the samples; a place counts from the first of them.
        conditioned: the same samples under conditions, by the name of the condition.
    """

    def __init__(
        self,
        store: SampleReader,
        tokens: Sequence[str],
        conditioned: Mapping[str, SampleReader] = MappingProxyType({}),
    ) -> None:
        self.store = store
        self.readers = {CLEAN: store, **conditioned}
        self.tokens = tuple(tokens)
        self.blank_maps = store.blank_maps
        self._null: FrameFeatures | None = None

    def __reduce__(self) -> tuple[Callable[..., "StoreDataset"], tuple[Any, ...]]:
        conditioned = {name: reader for name, reader in self.readers.items() if name != CLEAN}
        return _reopened, (self.store, self.tokens, conditioned, self._null is not None)

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
        """Read one sample, under its place's condition and without the sensors that it leaves out.

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
        reader = self.readers[place.condition]
        frame = reader.read_into(stored, token, place.variant, place.camera_variant)
        if place.absent:
            fill_absent(maps, self.null, place.absent)
        annotations = trainable_annotations(frame.annotations, self.store.preset.grid)
        return replace(frame, annotations=annotations)


def _reopened(
    store: SampleReader,
    tokens: Sequence[str],
    conditioned: Mapping[str, SampleReader],
    needs_null: bool,
) -> StoreDataset:
    """Return a dataset sent to a different process, which reads the null features again."""
    dataset = StoreDataset(store, tokens, conditioned)
    if needs_null:
        _ = dataset.null
    return dataset


def samples_digest(store: FeatureStore) -> str:
    """Return the digest of what a run's samples are made from.

    So a run is not resumed on a store of the same tables and other sensor files.
    """
    identity, sources = store.identity_digest, store.sources_digest
    return identity if sources is None else json_digest([identity, sources])
