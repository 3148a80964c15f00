"""A store whose maps are what the backbones said, in float32: what rounding to float16 costs."""

from collections.abc import Mapping

import numpy as np

from cache.reader import CachedFeatures
from cache.storage.protocol import StorePath
from shared.data.features import Frame, FrameFeatures, MapValues
from stage1_extract.backbones.live import LiveFeatures
from stage1_extract.extraction.null_sample import null_raw_frame


class FeaturesInMemory(CachedFeatures):
    """A store that answers with live features, each computed once and kept.

    Args:
        path: the store, for all that are no maps.
        live: of the same samples and variants.
    """

    def __init__(self, path: StorePath, live: LiveFeatures) -> None:
        super().__init__(path)
        self.live = live
        self._kept: dict[tuple[str, int], FrameFeatures] = {}

    @property
    def blank_maps(self) -> dict[str, MapValues]:
        """See `CachedFeatures.blank_maps`; here of float32."""
        return {
            one.name: np.broadcast_to(np.zeros((), np.float32), one.shape)
            for one in self.cut.maps(self.preset)
        }

    def read_into(self, maps: Mapping[str, MapValues], token: str, variant: int = 0) -> Frame:
        """See `CachedFeatures.read_into`."""
        if (token, variant) not in self._kept:
            (self._kept[token, variant],) = self.live.read([token], variant)
        kept = self._kept[token, variant]
        for name, room in maps.items():
            assert isinstance(room, np.ndarray)
            room[...] = kept.maps[name]
        return kept.frame

    @property
    def null(self) -> FrameFeatures:
        """See `CachedFeatures.null`."""
        (features,) = self.live.run([null_raw_frame(self.preset)])
        return features
