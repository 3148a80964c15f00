"""Where a delta's features come from, for every sensor of every sample of its base."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from shared.config.classes import CAMERAS, LIDAR
from shared.errors import CacheError

SENSORS = (LIDAR, *CAMERAS)

BASE, ROW, ABSENT, STUCK = ".ras"  # a letter per sample: as in the base, a row of the delta, ...


@dataclass(frozen=True, kw_only=True, slots=True)
class SensorPlan:
    """Where the features of a sensor come from.

    Args:
        letters: one per sample of the base, in its order: `BASE`; `ROW`, in the delta; `ABSENT`,
            the base's null features; `STUCK`, those of a different sample of the base.
        stuck_at: position of that sample, by the position of the stuck one.
    """

    letters: str
    stuck_at: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        stuck = {place for place, letter in enumerate(self.letters) if letter == STUCK}
        if set(self.letters) - {BASE, ROW, ABSENT, STUCK} or stuck != self.stuck_at.keys():
            raise CacheError(
                "this is not a plan of a delta store: unknown letters or stuck samples"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class DeltaPlan:
    """Where the features of every sample come from.

    Args:
        samples: of the base.
        sensors: by name, `LIDAR` or one of `CAMERAS`; a sensor that is not named is as in the base.
        has_geometry: whether the delta has its own `img_from_lidar` of every sample.

    Raises:
        CacheError: if sensors or lengths do not fit.
    """

    samples: int
    sensors: dict[str, SensorPlan] = field(default_factory=dict)
    has_geometry: bool = False

    def __post_init__(self) -> None:
        for name, sensor in self.sensors.items():
            if name not in SENSORS or len(sensor.letters) != self.samples:
                raise CacheError(
                    f"a plan of {len(sensor.letters)} samples for sensor {name!r} does not fit a "
                    f"store of {self.samples} samples with the sensors {', '.join(SENSORS)}"
                )

    @property
    def changes_anything(self) -> bool:
        """Whether any sensor of any sample is not taken from the base as it is."""
        return self.has_geometry or any(
            letter != BASE for sensor in self.sensors.values() for letter in set(sensor.letters)
        )

    @property
    def uses_null(self) -> bool:
        """Whether a sensor is absent anywhere."""
        return any(ABSENT in sensor.letters for sensor in self.sensors.values())

    @property
    def changes_by_itself(self) -> bool:
        """Whether sensors are absent or stuck anywhere, which no row has to prove."""
        return any({ABSENT, STUCK} & set(sensor.letters) for sensor in self.sensors.values())

    def touched(self) -> list[int]:
        """Return the positions of the samples of which anything is not as in the base."""
        return [
            place
            for place in range(self.samples)
            if self.has_geometry
            or any(sensor.letters[place] != BASE for sensor in self.sensors.values())
        ]

    def letter(self, sensor: str, place: int) -> str:
        """Return where a sensor's features of the sample at a position come from."""
        plan = self.sensors.get(sensor)
        return BASE if plan is None else plan.letters[place]

    def stuck_at(self, sensor: str, place: int) -> int:
        """Return the position of the sample that a stuck sensor delivers."""
        return self.sensors[sensor].stuck_at[place]

    def rows(self, sensors: Sequence[str]) -> Iterator[tuple[int, str]]:
        """Yield position and sensor of every row of the delta, sample by sample."""
        for place in range(self.samples):
            for sensor in sensors:
                if self.letter(sensor, place) == ROW:
                    yield place, sensor

    def counts(self) -> Mapping[str, dict[str, int]]:
        """Count the letters of every sensor that is named."""
        return {
            name: {letter: sensor.letters.count(letter) for letter in (ROW, ABSENT, STUCK)}
            for name, sensor in self.sensors.items()
        }
