"""Features under a condition: what it changes is read from a delta store, the rest from its base.

A `shared.data.feature_store.FeatureStore`. Maps that the delta replaces are not read from the base;
a camera map, which is one piece on disk, is read if any of its views is as in the base.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.coordination.read_arrays import read_arrays
from cache.coordination.store import Store
from cache.delta.delta_content import DeltaContent
from cache.delta.delta_metadata import ConditionSummary, DeltaMetadata, read_delta
from cache.delta.delta_plan import ABSENT, BASE, ROW, STUCK
from cache.delta.delta_rows import Part, RowReader, open_parts, row_token
from cache.delta.map_slices import copy_maps, empty_maps, sensor_maps
from cache.format.identity import Identity
from cache.format.schema import CAMERA_MATRICES, EGO_MATRIX
from cache.reader import CachedFeatures
from cache.storage.protocol import StorePath
from shared.config.classes import CAMERAS, LIDAR
from shared.config.cut import Cut
from shared.config.preset import Preset
from shared.data.combined_variants import is_camera_map
from shared.data.features import Frame, FrameFeatures, MapValues
from shared.digests import json_digest

Maps = Mapping[str, MapValues]


class ConditionedFeatures:
    """Features of a base and a delta, which `open_features.open_delta` has checked.

    Args:
        path: the delta store.
        metadata: its document.
        parts: the stores inside it.
        base: the store that it was made from.
    """

    def __init__(
        self,
        path: StorePath,
        metadata: DeltaMetadata,
        parts: Mapping[Part, Store],
        base: CachedFeatures,
    ) -> None:
        self.path, self.metadata, self.base = path, metadata, base
        self._plan = metadata.plan
        self._parts = parts
        self._rows = {part: RowReader(store) for part, store in parts.items()}
        self._clean = RowReader(base.store)
        self._null = base.null if metadata.plan.uses_null else None

    def __reduce__(self) -> tuple[Callable[..., "ConditionedFeatures"], tuple[Any, ...]]:
        return _reopened, (self.path, self.base)

    @property
    def condition(self) -> ConditionSummary:
        """What the features are conditioned on."""
        return self.metadata.condition

    @property
    def preset(self) -> Preset:
        """The detector the features belong to."""
        return self.base.preset

    @property
    def cut(self) -> Cut:
        """Where the frozen part ends."""
        return self.base.cut

    @property
    def tokens(self) -> tuple[str, ...]:
        """Sample tokens, in the base's order."""
        return self.base.tokens

    @property
    def scenes(self) -> tuple[str, ...]:
        """The scene of each sample, in the same order."""
        return self.base.scenes

    @property
    def variants(self) -> int:
        """Augmented variants per sample, as many as the base has."""
        return self.base.variants

    @property
    def identity(self) -> Identity:
        """That of the base, with the condition and the base's content."""
        return self.metadata.identity

    @property
    def identity_digest(self) -> str:
        """Digest of the identity."""
        return json_digest(self.identity)

    @property
    def features_digest(self) -> str:
        """That of the base: weights and preprocessing are the same."""
        return self.base.features_digest

    @property
    def sources_digest(self) -> str | None:
        """That of the base: a condition changes what is made of the same sensor files."""
        return self.base.sources_digest

    @property
    def blank_maps(self) -> dict[str, MapValues]:
        """Shape and dtype of a sample's maps, as read-only zeros that take no memory."""
        return self.base.blank_maps

    @property
    def null(self) -> FrameFeatures:
        """The frozen part's answer to absent sensors, that of the base."""
        return self.base.null

    def parity_note(self) -> str:
        """Return in a line what `check-parity` says of the features, and of the base alone."""
        return f"{self.content.parity_note()} (its base: {self.base.parity_note()})"

    @property
    def content(self) -> DeltaContent:
        """What the delta holds, without its base."""
        return DeltaContent(self.path, self.metadata, self._parts)

    def require_complete(self) -> None:
        """Make sure that every row of the base and of the delta is there.

        Raises:
            CacheError: saying how many rows are missing and how to get them.
        """
        self.base.require_complete()
        for reader in self._rows.values():
            reader.completeness.require_all()

    def read(
        self, tokens: Sequence[str], variant: int = 0, camera_variant: int | None = None
    ) -> list[FrameFeatures]:
        """Return the features of these samples, as `CachedFeatures.read`."""
        features = []
        for token in tokens:
            maps = empty_maps(self.blank_maps)
            frame = self.read_into(maps, token, variant, camera_variant)
            features.append(FrameFeatures(frame=frame, maps=maps))
        return features

    def read_into(
        self, maps: Maps, token: str, variant: int = 0, camera_variant: int | None = None
    ) -> Frame:
        """Read maps of a sample into existing memory, as `CachedFeatures.read_into`."""
        cameras = variant if camera_variant is None else camera_variant
        place = self._clean.completeness.position(token, variant)
        from_base = {
            name: values
            for name, values in maps.items()
            if any(self._plan.letter(sensor, place) == BASE for sensor in _sensors_of(name))
        }
        frame = self.base.read_into(from_base, token, variant, camera_variant)
        self._fill(maps, LIDAR, place, variant)
        for camera in CAMERAS:
            self._fill(maps, camera, place, cameras)
        self._fill_stuck_cameras(maps, place, cameras)
        return self._conditioned(frame, variant, cameras)

    def frame(self, token: str, variant: int = 0) -> Frame:
        """Return geometry and annotations of a sample, without its maps.

        Raises: as `read`.
        """
        return self._conditioned(self.base.frame(token, variant), variant, variant)

    def labels(self, token: str, variant: int = 0) -> NDArray[np.int64]:
        """Return the (n,) labels of a sample, those of the base."""
        return self.base.labels(token, variant)

    def _fill(self, maps: Maps, sensor: str, place: int, variant: int) -> None:
        """Fill what a sensor contributes, unless the base has it or it is a stuck camera."""
        letter, own = self._plan.letter(sensor, place), sensor_maps(maps, sensor)
        if letter == BASE or not own:
            return
        if letter == ROW:
            token = row_token(self.base.store.samples.tokens[place], sensor)
            self._rows["lidar" if sensor == LIDAR else "camera"].read_into(own, token, variant)
        elif letter == ABSENT:
            assert self._null is not None, "read when the delta was opened"
            copy_maps(sensor_maps(self._null.maps, sensor), own)
        elif sensor == LIDAR:
            self._clean.read_into(own, self._stuck_token(sensor, place), variant)

    def _fill_stuck_cameras(self, maps: Maps, place: int, variant: int) -> None:
        """Read every sample that a camera is stuck at once, and copy the views concerned."""
        stuck = defaultdict[str, list[str]](list)
        for camera in CAMERAS:
            if self._plan.letter(camera, place) == STUCK:
                stuck[self._stuck_token(camera, place)].append(camera)
        own = {name: values for name, values in maps.items() if is_camera_map(name)}
        if not own:
            return
        for token, cameras in stuck.items():
            earlier = empty_maps(own)
            self._clean.read_into(earlier, token, variant)
            for camera in cameras:
                copy_maps(sensor_maps(earlier, camera), sensor_maps(own, camera))

    def _stuck_token(self, sensor: str, place: int) -> str:
        return self.base.store.samples.tokens[self._plan.stuck_at(sensor, place)]

    def _conditioned(self, frame: Frame, variant: int, camera_variant: int) -> Frame:
        """Return a frame of the base with the delta's projections, if it has any."""
        reader = self._rows.get("geometry")
        if reader is None:
            return frame
        specs = [spec for spec in reader.store.arrays if spec.name in (CAMERA_MATRICES, EGO_MATRIX)]
        place = reader.completeness.position(frame.token, variant)
        reader.completeness.position(frame.token, camera_variant)
        row = read_arrays(reader.store, specs, place, variant, camera_variant)
        return replace(frame, img_from_lidar=row[CAMERA_MATRICES])


def _reopened(path: StorePath, base: CachedFeatures) -> ConditionedFeatures:
    """Open in a different process what was checked in the first."""
    metadata = read_delta(path)
    return ConditionedFeatures(path, metadata, open_parts(path, metadata), base)


def _sensors_of(name: str) -> tuple[str, ...]:
    """Return the sensors that contribute to a map."""
    return CAMERAS if is_camera_map(name) else (LIDAR,)
