"""What training and evaluation need of the features they read, wherever those are stored.

`cache.reader.CachedFeatures` is a `FeatureStore`. Only the commands open one; everything behind
them takes these protocols.

n boxes of a sample.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shared.config.cut import Cut
from shared.config.preset import Preset
from shared.data.features import Frame, FrameFeatures, MapValues


class SampleReader(Protocol):
    """Reads samples one by one into memory that the caller provides; threads may share it."""

    @property
    def preset(self) -> Preset:
        """The detector the features belong to."""

    @property
    def blank_maps(self) -> Mapping[str, MapValues]:
        """Shape and dtype of a sample's maps by `FeatureMap.name`; their values mean nothing."""

    @property
    def null(self) -> FrameFeatures:
        """What the frozen part returns without any sensor, for `shared.data.sensor_drop`.

        Raises:
            CacheError: if there are no null features.
        """

    def read_into(
        self,
        maps: Mapping[str, MapValues],
        token: str,
        variant: int = 0,
        camera_variant: int | None = None,
    ) -> Frame:
        """Fill maps of a sample, all or some of `blank_maps`.

        Variants as in `shared.data.features.FeatureSource.read`.

        Returns:
            Its geometry and annotations.

        Raises:
            MissingRowError: if the sample is not there.
            CacheError: if it is damaged; the maps are not to be used then.
        """


class FeatureStore(SampleReader, Protocol):
    """Features of a fixed list of samples that know what they were made from."""

    @property
    def path(self) -> object:
        """The store, as messages name it."""

    @property
    def cut(self) -> Cut:
        """Where the frozen part ends."""

    @property
    def tokens(self) -> tuple[str, ...]:
        """Sample tokens, in a fixed order."""

    @property
    def scenes(self) -> tuple[str, ...]:
        """The scene of each sample, in the same order; see `Frame.scene`."""

    @property
    def variants(self) -> int:
        """Augmented variants per sample; variant 0 is the sample as recorded."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """What the features were made from.

        `weights` has a digest for each frozen part, `dataset` the `version` of nuScenes.
        """

    @property
    def identity_digest(self) -> str:
        """Digest of `identity`."""

    @property
    def features_digest(self) -> str:
        """Digest of weights and preprocessing: equal for two splits of one extraction."""

    @property
    def sources_digest(self) -> str | None:
        """Digest of the bytes of all sensor files that the rows were made from; None if unknown."""

    def parity_note(self) -> str:
        """Return in a line what the last `check-parity` says of the features."""

    def require_complete(self) -> None:
        """Check that every sample is there.

        Raises:
            CacheError: if not.
        """

    def frame(self, token: str, variant: int = 0) -> Frame:
        """Return geometry and annotations of a sample, without its maps."""

    def labels(self, token: str, variant: int = 0) -> NDArray[np.int64]:
        """Return (n,) the class of each box of a sample, as `Annotations.labels`."""


class StoredCondition(Protocol):
    """What a store says of the condition that its samples are under."""

    @property
    def name(self) -> str:
        """Its own name, fit for a file name."""

    @property
    def family(self) -> str:
        """Name that it shares with its other severities."""

    @property
    def severity(self) -> int | None:
        """From 1, the mildest; None where its source has no severities."""


class ConditionedStore(FeatureStore, Protocol):
    """The samples of a clean store under a condition: same tokens, preset, cut and null."""

    @property
    def condition(self) -> StoredCondition:
        """The condition."""
