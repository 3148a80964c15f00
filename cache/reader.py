"""The read side: a `shared.data.features.FeatureSource` that reads features from a store.

A missing row is an error, never zeros. No file stays open between reads, so a source can be shared
by threads and sent to spawned processes: it is pickled as its path and opened again there.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.coordination.completeness import Completeness
from cache.coordination.null_store import NULL_SAMPLES, open_null
from cache.coordination.read_arrays import map_buffers, read_arrays
from cache.coordination.store import Store, open_store
from cache.format.identity import Identity, features_digest, require_whole_store
from cache.format.metadata import Provenance
from cache.format.row_codec import decode_frame, decode_maps
from cache.format.schema import BOX_COUNT, LABELS, ArraySpec, Row
from cache.inspection.parity_record import parity_note
from cache.inspection.sources_digest import sources_digest
from cache.storage.protocol import StorePath
from shared.config.cut import Cut, parse_cut
from shared.config.preset import Preset
from shared.data.features import Frame, FrameFeatures, MapValues
from shared.digests import json_digest
from shared.errors import CacheError


class CachedFeatures:
    """Features of a store, addressed by sample token.

    Args:
        path: the store, finished or not.

    Attributes:
        store: as it was opened, for whoever needs its layout or ledger.

    Raises:
        CacheError: if there is no store, its metadata is damaged, or it is inside a delta.
    """

    def __init__(self, path: Path | StorePath) -> None:
        self.store: Store = open_store(path)
        require_whole_store(self.store.path, self.identity)
        self._preset: Preset = self.store.metadata.preset
        self._completeness = Completeness(self.store)
        self._sources_digest: str | None = None
        self._map_specs = tuple(spec for spec in self.store.arrays if spec.feature_map is not None)
        self._frame_specs = tuple(spec for spec in self.store.arrays if spec.feature_map is None)

    def __reduce__(self) -> tuple[Callable[..., "CachedFeatures"], tuple[StorePath]]:
        return CachedFeatures, (self.store.path,)

    @property
    def path(self) -> StorePath:
        """The store."""
        return self.store.path

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
        return self.store.metadata.identity

    @property
    def identity_digest(self) -> str:
        """Digest of the identity: equal for two stores of the same thing."""
        return json_digest(self.identity)

    @property
    def features_digest(self) -> str:
        """Digest of weights and preprocessing only: equal for two splits of an extraction."""
        return features_digest(self.identity)

    @property
    def sources_digest(self) -> str | None:
        """Digest of all sensor files, from the ledger; None if rows or their files are unknown.

        The ledger is read once: every delta of a run asks its base.
        """
        if self._sources_digest is None:
            self._sources_digest = sources_digest(self.store)
        return self._sources_digest

    @property
    def provenance(self) -> Provenance:
        """How the store was made; recorded, never compared."""
        return self.store.metadata.provenance

    @property
    def tokens(self) -> tuple[str, ...]:
        """Sample tokens, in the store's order, including those not extracted yet."""
        return tuple(self.store.samples.tokens)

    @property
    def scenes(self) -> tuple[str, ...]:
        """The scene of each sample, in the same order; see `Frame.scene`."""
        return tuple(self.store.samples.scenes)

    @property
    def variants(self) -> int:
        """Augmented variants per sample; variant 0 is the sample as recorded."""
        return self.store.layout.variants

    def parity_note(self) -> str:
        """Return in a line what the last `check-parity` says of the store's present content."""
        return parity_note(self.store)

    def missing(self) -> tuple[str, ...]:
        """Return the tokens of the samples of which a variant is not extracted yet."""
        return self._completeness.missing()

    def is_complete(self) -> bool:
        """Return whether every row is extracted."""
        return not self.missing()

    def require_complete(self) -> None:
        """Make sure that every row is extracted.

        Raises:
            CacheError: saying how many samples are missing and how to get them.
        """
        self._completeness.require_all()

    def read(
        self, tokens: Sequence[str], variant: int = 0, camera_variant: int | None = None
    ) -> list[FrameFeatures]:
        """Return the features of these samples, in this order; see `FeatureSource`.

        Maps are float16; those of a quantised store stay in 8 bit, as `QuantisedMap`.

        Raises:
            MissingRowError: if a sample is not in the store, or not extracted yet.
            CacheError: if a row is damaged.
        """
        features = []
        for token in tokens:
            row = self._row(self.store.arrays, token, variant, camera_variant)
            maps = decode_maps(self._map_specs, row)
            features.append(FrameFeatures(frame=self._frame(token, variant, row), maps=maps))
        return features

    @property
    def blank_maps(self) -> dict[str, MapValues]:
        """Shape and dtype of a sample's maps, as read-only zeros that take no memory."""
        row = {
            spec.name: np.broadcast_to(np.zeros((), spec.dtype), spec.shape)
            for spec in self._map_specs
        }
        return decode_maps(self._map_specs, row)

    def read_into(
        self,
        maps: Mapping[str, MapValues],
        token: str,
        variant: int = 0,
        camera_variant: int | None = None,
    ) -> Frame:
        """Read maps of a sample into existing memory; several threads may do so at a time.

        Args:
            maps: contiguous arrays like those of `blank_maps`, to be filled; or some of them.
            token: of the sample.
            variant: of LiDAR, boxes and poses.
            camera_variant: of the images; None for the same.

        Returns:
            Its geometry and annotations.

        Raises: as `read`; the arrays must not be used then.
        """
        buffers = map_buffers(self._map_specs, maps)
        wanted = [
            spec for spec in self.store.arrays if spec.feature_map is None or spec.name in buffers
        ]
        row = self._row(wanted, token, variant, camera_variant, buffers)
        return self._frame(token, variant, row)

    @property
    def null(self) -> FrameFeatures:
        """The frozen part's answer to absent sensors; for `shared.data.sensor_drop`.

        Raises:
            CacheError: if the store has no null features yet.
        """
        store = open_null(self.store)
        if store is None or not store.ledger.complete():
            raise CacheError(
                f"{self.path} has no null features, so no sensor can be dropped; run the "
                f"extraction again to add them: {self.store.command}"
            )
        (features,) = CachedFeatures(store.path).read(NULL_SAMPLES.tokens)
        return features

    def frame(self, token: str, variant: int = 0) -> Frame:
        """Return geometry and annotations of a sample, without its maps.

        Raises: as `read`.
        """
        return self._frame(token, variant, self._row(self._frame_specs, token, variant))

    def labels(self, token: str, variant: int = 0) -> NDArray[np.int64]:
        """Return the (n,) labels of a sample, as in `Annotations`, for class balance.

        Raises: as `read`.
        """
        wanted = [spec for spec in self._frame_specs if spec.name in (BOX_COUNT, LABELS)]
        row = self._row(wanted, token, variant)
        return row[LABELS][: int(row[BOX_COUNT])]

    def _row(
        self,
        specs: Sequence[ArraySpec],
        token: str,
        variant: int,
        camera_variant: int | None = None,
        buffers: Mapping[str, NDArray[Any]] | None = None,
    ) -> Row:
        """Read arrays of a sample whose rows are there, see `read_arrays`."""
        cameras = variant if camera_variant is None else camera_variant
        position, _ = (self._completeness.position(token, row) for row in (variant, cameras))
        return read_arrays(self.store, specs, position, variant, cameras, buffers)

    def _frame(self, token: str, variant: int, row: Row) -> Frame:
        samples, position = self.store.samples, self._completeness.position(token, variant)
        return decode_frame(
            token=token,
            scene=samples.scenes[position],
            timestamp_us=samples.timestamps_us[position],
            variant=variant,
            row=row,
        )
