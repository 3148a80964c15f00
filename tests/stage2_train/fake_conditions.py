"""A delta store that is computed while it is read: a clean store whose maps are changed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cache.reader import CachedFeatures
from shared.data.features import Frame, MapValues
from shared.digests import json_digest


@dataclass(frozen=True)
class FakeSummary:
    """What a delta store says of its condition."""

    name: str
    family: str
    severity: int | None = None
    source: str = "a test"


class FakeDelta(CachedFeatures):
    """The samples of a store with maps scaled by a factor.

    Args:
        base: the clean store.
        condition: see there.
        factors: of the maps whose names begin so; others stay.
        shift: added to `img_from_lidar`.
    """

    def __init__(
        self,
        base: Path,
        condition: FakeSummary,
        factors: Mapping[str, float] | None = None,
        shift: float = 0.0,
    ) -> None:
        super().__init__(base)
        self.condition = condition
        self.factors, self.shift = dict(factors or {}), shift

    @property
    def identity_digest(self) -> str:
        about = [super().identity_digest, self.condition.name, self.factors, self.shift]
        return json_digest(about)

    def read_into(
        self,
        maps: Mapping[str, MapValues],
        token: str,
        variant: int = 0,
        camera_variant: int | None = None,
    ) -> Frame:
        frame = super().read_into(maps, token, variant, camera_variant)
        for name, values in maps.items():
            for beginning, factor in self.factors.items():
                if name.startswith(beginning):
                    values *= factor  # type: ignore[operator]
        return replace(frame, img_from_lidar=frame.img_from_lidar + self.shift)


def opened(deltas: Mapping[str, FakeDelta]) -> Callable[[object, CachedFeatures], FakeDelta]:
    """Return a stand-in for `open_delta` that takes the names of these deltas as paths."""
    return lambda path, base: deltas[Path(str(path)).name]
