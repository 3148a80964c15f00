"""Take sensors away from a sample, exactly: their maps become the frozen part's null answer.

Cameras do not see each other in the backbone, so a single one can be dropped, too. A feature map of
zeros is not what an absent sensor gives.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from shared.classes import CAMERAS
from shared.features import FrameFeatures, MapValues, QuantisedMap


def without_lidar(features: FrameFeatures, null: FrameFeatures) -> FrameFeatures:
    """Return the sample as if no LiDAR point had come.

    Args:
        features: of a sample.
        null: of the same store, `CachedFeatures.null`.
    """
    absent = {name: values for name, values in null.maps.items() if name.startswith("lidar/")}
    return replace(features, maps={**features.maps, **absent})


def without_cameras(
    features: FrameFeatures, null: FrameFeatures, cameras: Sequence[str] = CAMERAS
) -> FrameFeatures:
    """Return the sample as if these cameras had seen nothing.

    Args:
        features: of a sample.
        null: of the same store, `CachedFeatures.null`.
        cameras: names, all of them by default.
    """
    views = [CAMERAS.index(name) for name in cameras]
    absent = {
        name: _replace_views(values, null.maps[name], views)
        for name, values in features.maps.items()
        if name.startswith("camera/")
    }
    return replace(features, maps={**features.maps, **absent})


def _replace_views(values: MapValues, null: MapValues, views: Sequence[int]) -> MapValues:
    """Return a map (V, ...) with some of its views taken from another."""
    if isinstance(values, QuantisedMap):
        assert isinstance(null, QuantisedMap), "both maps come from the same store"
        return QuantisedMap(
            values=_mixed(values.values, null.values, views),
            scale=_mixed(values.scale, null.scale, views),
            zero=_mixed(values.zero, null.zero, views),
        )
    assert not isinstance(null, QuantisedMap), "both maps come from the same store"
    return _mixed(values, null, views)


def _mixed(values: NDArray[Any], null: NDArray[Any], views: Sequence[int]) -> NDArray[Any]:
    mixed = values.copy()
    mixed[list(views)] = null[list(views)]
    return mixed
