"""The read side: a `shared.data.features.FeatureSource` that takes features from a store.

A row that is not there is an error, never zeros. Nothing stays open between reads, so a source can
be shared by threads and handed to spawned processes: it travels as its path and is opened anew.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.coordination.completeness import Completeness
from cache.coordination.null_store import NULL_SAMPLES, open_null
from cache.coordination.store import Store, open_store
from cache.format.codec import DamageError
from cache.format.identity import Identity, features_digest
from cache.format.metadata import Provenance
from cache.format.row_codec import decode_frame, decode_maps
from cache.format.schema import BOX_COUNT, LABELS, ArraySpec, Row, scale_name
from cache.storage.location import StorePath, for_each
from shared.config.cut import Cut, parse_cut
from shared.config.preset import Preset
from shared.data.features import Frame, FrameFeatures, MapValues, QuantisedMap
from shared.digests import json_digest
from shared.errors import CacheError


class CachedFeatures:
    """Features of a store, addressed by sample token.

    Args:
        path: the store, finished or not.

    Raises:
        CacheError: if there is no store, or its metadata is damaged.
    """

    def __init__(self, path: StorePath) -> None:
        self._store: Store = open_store(path)
        self._preset: Preset = self._store.metadata.preset
        self._completeness = Completeness(self._store)
        self._maps = tuple(one for one in self._store.arrays if one.feature_map is not None)
        self._others = tuple(one for one in self._store.arrays if one.feature_map is None)

    def __reduce__(self) -> tuple[Callable[..., "CachedFeatures"], tuple[StorePath]]:
        return CachedFeatures, (self._store.path,)

    @property
    def path(self) -> StorePath:
        """The store."""
        return self._store.path

    @property
    def preset(self) -> Preset:
        """The detector the features belong to."""
        return self._preset

    @property
    def cut(self) -> Cut:
        """Where the frozen part ends."""
        return parse_cut(self.identity["cut"])

    @property
    def identity(self) -> Identity:
        """What the features were made from, see `cache.format.identity`."""
        return self._store.metadata.identity

    @property
    def identity_digest(self) -> str:
        """Digest of the identity: equal for two stores of the same thing."""
        return json_digest(self.identity)

    @property
    def features_digest(self) -> str:
        """Digest of weights and preprocessing alone: equal for two splits of one extraction."""
        return features_digest(self.identity)

    @property
    def provenance(self) -> Provenance:
        """How the store came to be; recorded, never compared."""
        return self._store.metadata.provenance

    @property
    def tokens(self) -> tuple[str, ...]:
        """Sample tokens, in the store's order; those not extracted yet are among them."""
        return tuple(self._store.samples.tokens)

    @property
    def variants(self) -> int:
        """Augmented variants per sample; variant 0 is the sample as recorded."""
        return self._store.layout.variants

    def missing(self) -> tuple[str, ...]:
        """Return the tokens of samples of which some variant is not there yet."""
        return self._completeness.missing()

    def is_complete(self) -> bool:
        """Return whether every row is there."""
        return not self.missing()

    def require_complete(self) -> None:
        """Make sure that every row is there.

        Raises:
            CacheError: saying how many samples are missing and how to get them.
        """
        self._completeness.require_all()

    def read(self, tokens: Sequence[str], variant: int = 0) -> list[FrameFeatures]:
        """Return the features of these samples, in this order.

        Maps are float16; those of a quantised store stay in 8 bit, as `QuantisedMap`.

        Raises:
            MissingRowError: if a sample is not in the store, or not there yet.
            CacheError: if a row is damaged.
        """
        found = []
        for token in tokens:
            position = self._completeness.position(token, variant)
            row = self._read_arrays(self._store.arrays, variant, position)
            maps = decode_maps(self._maps, row)
            found.append(FrameFeatures(frame=self._frame(variant, position, row), maps=maps))
        return found

    @property
    def blank_maps(self) -> dict[str, MapValues]:
        """Shape and dtype of a sample's maps, as read-only zeros that take no memory."""
        row = {one.name: np.broadcast_to(np.zeros((), one.dtype), one.shape) for one in self._maps}
        return decode_maps(self._maps, row)

    def read_into(self, maps: Mapping[str, MapValues], token: str, variant: int = 0) -> Frame:
        """Read maps of a sample into memory that is there already; threads may do so at once.

        Args:
            maps: contiguous arrays like those of `blank_maps`, to be filled; or some of them.
            token: of the sample.
            variant: of the sample.

        Returns:
            Its geometry and annotations.

        Raises: as `read`; the arrays are not to be used then.
        """
        position = self._completeness.position(token, variant)
        buffers = {
            spec.name: _buffer(spec, maps[spec.feature_map])
            for spec in self._maps
            if spec.feature_map is not None and spec.feature_map in maps
        }
        wanted = [
            spec for spec in self._store.arrays if spec in self._others or spec.name in buffers
        ]
        return self._frame(variant, position, self._read_arrays(wanted, variant, position, buffers))

    @property
    def null(self) -> FrameFeatures:
        """What the frozen part answers without any sensor; for `shared.data.sensor_drop`.

        Raises:
            CacheError: if the store has no null features yet.
        """
        store = open_null(self._store)
        if store is None or not store.ledger.complete():
            raise CacheError(
                f"{self.path} has no null features, so no sensor can be dropped; run the "
                f"extraction again, it adds them: {self.provenance.command}"
            )
        (features,) = CachedFeatures(store.path).read(NULL_SAMPLES.tokens)
        return features

    def read_frames(self, tokens: Sequence[str], variant: int = 0) -> list[Frame]:
        """Return geometry and annotations only, for evaluation.

        Raises: as `read`.
        """
        return [self.frame(token, variant) for token in tokens]

    def frame(self, token: str, variant: int = 0) -> Frame:
        """Return geometry and annotations of one sample.

        Raises: as `read`.
        """
        position = self._completeness.position(token, variant)
        return self._frame(variant, position, self._read_arrays(self._others, variant, position))

    def labels(self, token: str, variant: int = 0) -> NDArray[np.int64]:
        """Return (n,) the labels of one sample alone, as in `Annotations`, for class balance.

        Raises: as `read`.
        """
        wanted = [spec for spec in self._others if spec.name in (BOX_COUNT, LABELS)]
        row = self._read_arrays(wanted, variant, self._completeness.position(token, variant))
        return row[LABELS][: int(row[BOX_COUNT])]

    def _read_arrays(
        self,
        specs: Sequence[ArraySpec],
        variant: int,
        position: int,
        buffers: Mapping[str, NDArray[Any]] | None = None,
    ) -> Row:
        """Read arrays of a row, those that have a buffer into it."""

        def read(spec: ArraySpec) -> NDArray[Any]:
            buffer = None if buffers is None else buffers.get(spec.name)
            try:
                return self._store.read_array(spec, variant, position, buffer)
            except DamageError as error:
                raise self._store.damage(spec, variant, position, error) from error

        arrays = for_each(self.path, read, specs)
        return {spec.name: values for spec, values in zip(specs, arrays, strict=True)}

    def _frame(self, variant: int, position: int, row: Row) -> Frame:
        samples = self._store.samples
        return decode_frame(
            token=samples.tokens[position],
            scene=samples.scenes[position],
            timestamp_us=samples.timestamps_us[position],
            variant=variant,
            row=row,
        )


def _buffer(spec: ArraySpec, maps: MapValues) -> NDArray[Any]:
    """Return the array of a map that `spec` describes."""
    if not isinstance(maps, QuantisedMap):
        return maps
    if spec.is_quantised:
        return maps.values
    return maps.scale if spec.name == scale_name(spec.feature_map or "") else maps.zero
