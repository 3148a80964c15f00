"""Live features in memory, in float32: what rounding them to float16 in a store costs."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from shared.config.preset import Preset
from shared.data.combined_variants import combined_img_from_lidar, is_camera_map
from shared.data.features import Frame, FrameFeatures, MapValues
from stage1_extract.backbones.live import LiveFeatures
from stage1_extract.extraction.null_sample import null_raw_frame


class FeaturesInMemory:
    """A `shared.data.feature_store.SampleReader` that computes every sample once.

    Args:
        live: computes features.
    """

    def __init__(self, live: LiveFeatures) -> None:
        self.live = live
        self._computed: dict[tuple[str, int], FrameFeatures] = {}

    @property
    def preset(self) -> Preset:
        """See `SampleReader.preset`."""
        return self.live.preset

    @property
    def blank_maps(self) -> dict[str, MapValues]:
        """See `SampleReader.blank_maps`; here in float32."""
        return {
            spec.name: np.broadcast_to(np.zeros((), np.float32), spec.shape)
            for spec in self.live.cut.maps(self.preset)
        }

    @property
    def null(self) -> FrameFeatures:
        """See `SampleReader.null`."""
        (features,) = self.live.run([null_raw_frame(self.preset)])
        return features

    def read_into(
        self,
        maps: Mapping[str, MapValues],
        token: str,
        variant: int = 0,
        camera_variant: int | None = None,
    ) -> Frame:
        """See `SampleReader.read_into`."""
        features = self._features(token, variant)
        if camera_variant is None or camera_variant == variant:
            cameras, frame = features, features.frame
        else:
            cameras = self._features(token, camera_variant)
            projections = combined_img_from_lidar(
                cameras.frame.img_from_lidar,
                cameras.frame.ego_from_lidar,
                features.frame.ego_from_lidar,
            )
            frame = replace(features.frame, img_from_lidar=projections)
        for name, buffer in maps.items():
            assert isinstance(buffer, np.ndarray)
            buffer[...] = (cameras if is_camera_map(name) else features).maps[name]
        return frame

    def _features(self, token: str, variant: int) -> FrameFeatures:
        if (token, variant) not in self._computed:
            (self._computed[token, variant],) = self.live.read([token], variant)
        return self._computed[token, variant]
