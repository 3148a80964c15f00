"""Leave sensors out of a sample: their maps become the frozen part's null answer.

That is exact for a sample as recorded. An augmented variant gets the answer to the recorded sample,
too, where official training gets one that depends on the augmentation: docs/fidelity.md, "Absent
sensors", has the difference.

The backbone processes cameras separately, so a single one can be dropped, too. A feature map of
zeros is not what the backbone returns for an absent sensor.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from shared.config.classes import CAMERAS, LIDAR
from shared.config.preset import Preset
from shared.data.features import FrameFeatures, MapValues
from shared.data.map_arrays import map_parts, whole_map
from shared.errors import ConfigError

if TYPE_CHECKING:
    import torch

Absent = tuple[str, ...]  # names of sensors: `LIDAR`, or some of `CAMERAS`
NOTHING: Absent = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class SensorDrop:
    """How often training leaves sensors out of a sample; at most one of these happens.

    Args:
        lidar, cameras: probability of losing the LiDAR, and of losing all cameras.
        single_camera: probability of losing one camera, each equally likely.

    Raises:
        ConfigError: if these are no probabilities, or their sum exceeds 1.

    Source:
        CMT, transform_3d.py `ModalMask3D`: half of the samples lose nothing, a quarter the images,
        a quarter the points. It drops no single cameras.
    """

    lidar: float = 0.25
    cameras: float = 0.25
    single_camera: float = 0.0

    def __post_init__(self) -> None:
        probabilities = (self.lidar, self.cameras, self.single_camera)
        if not (min(probabilities) >= 0 and sum(probabilities) <= 1 + 1e-9):  # NaN is refused, too
            raise ConfigError(
                f"sensor drop: lidar {self.lidar}, cameras {self.cameras} and single_camera "
                f"{self.single_camera} must be probabilities with a sum of at most 1"
            )

    def draw(self, samples: int, generator: "torch.Generator") -> list[Absent]:
        """Return what each of these samples loses."""
        import torch  # not before: a recipe is read without it

        chances = torch.rand(samples, generator=generator, dtype=torch.float64).tolist()
        singles = torch.randint(len(CAMERAS), (samples,), generator=generator).tolist()
        return [self._lost(chance, single) for chance, single in zip(chances, singles, strict=True)]

    def _lost(self, chance: float, single: int) -> Absent:
        if chance < self.lidar:
            return (LIDAR,)
        if chance < self.lidar + self.cameras:
            return CAMERAS
        if chance < self.lidar + self.cameras + self.single_camera:
            return (CAMERAS[single],)
        return NOTHING

    @property
    def possible(self) -> tuple[Absent, ...]:
        """What can be drawn; the first camera stands for any single one."""
        chances = {(LIDAR,): self.lidar, CAMERAS: self.cameras, CAMERAS[:1]: self.single_camera}
        return tuple(absent for absent, chance in chances.items() if chance > 0)


def require_remaining(absent: Absent, preset: Preset) -> None:
    """Check that a preset has these sensors and at least one more.

    Raises:
        ConfigError: if not.
    """
    present = {"LiDAR": preset.lidar and (LIDAR,), "cameras": preset.camera and CAMERAS}
    sensors = {sensor for some in present.values() for sensor in some or ()}
    if not set(absent) < sensors:
        only = " and ".join(kind for kind, some in present.items() if some)
        raise ConfigError(
            f"sensor drop: a sample cannot be taken with {condition(absent)}, because "
            f"{preset.name} has only {only}; leave this out"
        )


def condition(absent: Absent) -> str:
    """Name the absent sensors: "all" (nothing absent), "no lidar", "no CAM_BACK", ..."""
    if not absent:
        return "all"
    kinds = ["lidar"] if LIDAR in absent else []
    cameras = [name for name in CAMERAS if name in absent]
    kinds += ["cameras"] if len(cameras) == len(CAMERAS) else cameras
    return f"no {' and '.join(kinds)}"


def without(features: FrameFeatures, null: FrameFeatures, absent: Absent) -> FrameFeatures:
    """Return the sample as if these sensors were absent.

    Args:
        features: of a sample.
        null: of the same store, `FeatureStore.null`.
        absent: names of sensors.
    """
    maps = dict(features.maps)
    for name, values in features.maps.items():
        if is_replaced(name, absent):
            maps[name] = null.maps[name]
        elif _absent_rows(name, absent):
            maps[name] = whole_map(part.copy() for part in map_parts(values))
            fill_absent({name: maps[name]}, null, absent)
    return replace(features, maps=maps)


def is_replaced(name: str, absent: Absent) -> bool:
    """Return whether the whole feature map is replaced without these sensors."""
    return _absent_rows(name, absent) == [slice(None)]


def fill_absent(maps: Mapping[str, MapValues], null: FrameFeatures, absent: Absent) -> None:
    """Overwrite, in maps of a sample, what absent sensors would have contributed."""
    for name, values in maps.items():
        for rows in _absent_rows(name, absent):
            for own, nothing in zip(map_parts(values), map_parts(null.maps[name]), strict=True):
                own[rows] = nothing[rows]


def _absent_rows(name: str, absent: Absent) -> list[slice]:
    """Return the absent sensors' places on a map's first axis: views, or all of a BEV map.

    Slices, since an index made of a list would copy the null map before it is written.
    """
    if name.startswith("lidar/"):
        return [slice(None)] if LIDAR in absent else []
    if set(CAMERAS) <= set(absent):
        return [slice(None)]
    return [slice(view, view + 1) for view, camera in enumerate(CAMERAS) if camera in absent]
