"""How large a store will be, from the shapes."""

from dataclasses import dataclass

from cache.schema import array_specs, row_bytes
from shared.config import Preset

# Ratio of zstd level 1, low and high, by sensor: one real frame through random weights with
# calibrated BatchNorm. Indicative only; `feature-cache show` gives the measured one, once a shard
# is there.
RATIOS = {"camera": (1.27, 1.35), "lidar": (1.9, 2.4)}
MAX_BOXES = 200  # room for boxes assumed here; 0.05% of a row


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """Bytes of a whole store.

    Args:
        row: uncompressed bytes of one row.
        uncompressed: of all rows.
        smallest, largest: expected on disk.
    """

    row: int
    uncompressed: int
    smallest: int
    largest: int


def estimate(preset: Preset, *, samples: int, views: int) -> Estimate:
    """Estimate the size of a store of `preset`."""
    specs = array_specs(preset, MAX_BOXES)
    rows = samples * views
    least = most = 0.0
    for spec in specs:
        low, high = RATIOS.get(spec.name.partition("/")[0], (1.0, 1.0))
        least += spec.row_bytes / high
        most += spec.row_bytes / low
    one = row_bytes(specs)
    return Estimate(
        row=one, uncompressed=one * rows, smallest=round(least * rows), largest=round(most * rows)
    )
