"""Where a row is stored: the arithmetic between (variant, sample) and (shard, slot).

A shard holds consecutive samples of one variant and never straddles two, so that variants can be
added to a store without touching existing files. Shards are numbered variant by variant.
"""

from dataclasses import dataclass

from shared.errors import CacheError

# Uncompressed, all arrays of a shard together: few files, and a worker needs little memory.
SHARD_BYTES = 256 * 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """What a worker writes at once.

    Args:
        index: number of the shard in the store.
        variant: augmented variant of all its rows.
        start: position of its first sample in the store's list.
        tokens: its samples, in the store's order.
    """

    index: int
    variant: int
    start: int
    tokens: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """How the rows of a store are divided into shards.

    Args:
        variants, samples: size of the store.
        slots: rows that fit in a shard; the last shard of a variant may hold fewer.
    """

    variants: int
    samples: int
    slots: int

    def __post_init__(self) -> None:
        if min(self.variants, self.samples, self.slots) < 1:
            raise CacheError(
                f"a store of {self.samples} samples x {self.variants} variants in shards of "
                f"{self.slots} rows holds nothing; each number must be at least 1"
            )

    @property
    def rows(self) -> int:
        """Rows of the whole store."""
        return self.variants * self.samples

    @property
    def shards_per_variant(self) -> int:
        """Shards of a variant, the last possibly shorter."""
        return -(-self.samples // self.slots)

    @property
    def shard_count(self) -> int:
        """Shards of the whole store."""
        return self.variants * self.shards_per_variant

    def locate(self, variant: int, sample: int) -> tuple[int, int]:
        """Return the shard of a row and its slot there."""
        return variant * self.shards_per_variant + sample // self.slots, sample % self.slots

    def span(self, shard: int) -> tuple[int, range]:
        """Return the variant and the samples of a shard."""
        variant, block = divmod(shard, self.shards_per_variant)
        start = block * self.slots
        return variant, range(start, min(start + self.slots, self.samples))

    def chunk_key(self, shard: int, axes: int) -> str:
        """Return the file name of a shard in an array whose rows have `axes` axes (Zarr v3)."""
        variant, block = divmod(shard, self.shards_per_variant)
        return ".".join(["c", str(variant), str(block), *["0"] * axes])


def slots_per_shard(row_bytes: int, samples: int, shard_bytes: int, rows_at_once: int = 1) -> int:
    """Return how many rows a shard has: as many as fit in `shard_bytes`.

    Args:
        row_bytes: of a row, all arrays together.
        samples: of the store.
        shard_bytes: uncompressed size of a shard.
        rows_at_once: rows that are computed together. A shard holds a multiple of them, at least
            once: no batch spans two shards, so any other number would leave part of a batch empty.
    """
    batches = max(1, shard_bytes // (row_bytes * rows_at_once))
    return min(samples, batches * rows_at_once)
