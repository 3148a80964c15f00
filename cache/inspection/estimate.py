"""How large a store will be: bytes from the shapes, over ratios measured on real frames."""

from dataclasses import dataclass
from math import prod

from cache.format.schema import array_specs, row_bytes
from shared.config.cut import BACKBONE_CUT, Cut
from shared.config.preset import Preset

# Float16 bytes over bytes on disk, lowest and highest, by codec and sensor: of two presets and two
# kinds of untrained weights on real frames, benchmarks/results/codecs.json. Only indicative: how
# well features compress depends on the weights, and maps of a deeper cut were not measured.
# `feature-cache show` measures, as soon as there is a shard.
RATIOS = {
    "zstd-1-shuffle": {"camera": (1.30, 1.42), "lidar": (2.77, 11.54)},
    "zstd-1": {"camera": (1.17, 1.30), "lidar": (2.72, 10.17)},
    "none": {"camera": (1.00, 1.00), "lidar": (1.00, 1.00)},
    "lz4-bitshuffle": {"camera": (1.06, 1.23), "lidar": (1.45, 5.01)},
    "pcodec": {"camera": (1.33, 1.54), "lidar": (2.45, 8.18)},
    "uint8-zstd-1": {"camera": (2.28, 2.65), "lidar": (7.53, 23.14)},
    "uint8-lz4-bitshuffle": {"camera": (2.15, 2.31), "lidar": (5.22, 10.78)},
}
FLOAT16_BYTES = 2
MAX_BOXES = 200  # assumed; 0.05% of a row


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """The bytes of a store.

    Args:
        row: of an uncompressed row.
        uncompressed: of all rows.
        smallest, largest: expected on disk.
    """

    row: int
    uncompressed: int
    smallest: int
    largest: int


def estimate(
    preset: Preset, *, samples: int, variants: int, codec: str, cut: Cut = BACKBONE_CUT
) -> Estimate:
    """Estimate the size of a store of `preset`."""
    specs = array_specs(preset, MAX_BOXES, codec, cut)
    rows = samples * variants
    least = most = 0.0
    for spec in specs:
        if spec.feature_map is None:
            least += spec.row_bytes
            most += spec.row_bytes
        elif spec.feature_map == spec.name:  # the ratio includes scales and zero points
            low, high = RATIOS[codec][spec.name.partition("/")[0]]
            least += FLOAT16_BYTES * prod(spec.shape) / high
            most += FLOAT16_BYTES * prod(spec.shape) / low
    row = row_bytes(specs)
    return Estimate(
        row=row, uncompressed=row * rows, smallest=round(least * rows), largest=round(most * rows)
    )
