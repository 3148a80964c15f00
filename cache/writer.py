"""The write side: whole shards in any order, by any number of workers, resumable after a kill."""

import platform
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import numpy as np

from cache.coordination.free_space import explain_failed_write
from cache.coordination.ledger import LedgerEntry
from cache.coordination.shard_sources import ShardSources
from cache.coordination.store import Store, open_store
from cache.encoded_row import EncodedRow, encode_row
from cache.format.identity import rows_digest
from cache.format.layout import Shard
from cache.format.shard_file import write_shard_file
from cache.format.statistics import merge_by_array
from cache.storage.protocol import StorePath
from shared.data.features import FrameFeatures
from shared.errors import CacheError
from shared.process.memory.available_memory import available_memory_bytes

_Row = TypeVar("_Row", FrameFeatures, EncodedRow)


class StoreWriter:
    """Fills a store shard by shard; a shard is either complete or absent.

    Args:
        path: a store made by `create.create_store`.
    """

    def __init__(self, path: Path | StorePath) -> None:
        self.store: Store = open_store(path)

    @property
    def shards(self) -> tuple[Shard, ...]:
        """Every shard of the store."""
        return tuple(self.store.shard(index) for index in self.store.all_shards)

    def pending(self) -> list[Shard]:
        """Return the shards that are not complete, in order."""
        complete = self.store.ledger.complete()
        return [self.store.shard(i) for i in self.store.all_shards if i not in complete]

    def write_shard(self, shard: Shard, rows: Sequence[FrameFeatures]) -> bool:
        """Write a complete shard: its bytes, then its ledger entry.

        Args:
            shard: from `pending()`.
            rows: the features of all its samples, in any order.

        Returns:
            False if another worker has completed the shard meanwhile; its rows are kept.

        Raises:
            CacheError: if rows are missing or unfit (then nothing is written), or the disk is full.
        """
        started = time.monotonic()
        encoded = [self.encode(features) for features in self._ordered(shard, rows)]
        return self.write_encoded(shard, encoded, seconds=time.monotonic() - started)

    def encode(self, features: FrameFeatures) -> EncodedRow:
        """Encode a row, of any shard; threads may do so side by side.

        Raises:
            CacheError: if it is unfit for the store.
        """
        return encode_row(self.store.arrays, features, self.store.metadata.digest_algorithm)

    def write_encoded(
        self, shard: Shard, rows: Sequence[EncodedRow], *, seconds: float = 0.0
    ) -> bool:
        """Do what `write_shard` does after its rows were encoded.

        Args:
            shard: from `pending()`.
            rows: all its rows, in any order.
            seconds: that encoding them took, for the ledger.
        """
        encoded = self._ordered(shard, rows)
        ledger = self.store.ledger
        try:
            with ledger.lock(shard.index) as has_partials:
                if ledger.path(shard.index).exists():
                    return False
                started = time.monotonic() - seconds
                while True:
                    size = self._write_arrays(shard, encoded, has_partials=has_partials)
                    entry = _entry(
                        shard,
                        encoded,
                        size,
                        time.monotonic() - started,
                        rows_digest(self.store.metadata.identity, shard.variant),
                    )
                    if ledger.write(entry):
                        return True
                    if self._is_settled(entry):
                        return False
        except OSError as error:
            raise explain_failed_write(self.store, shard.index, error) from error

    def _is_settled(self, ours: LedgerEntry) -> bool:
        """Return whether the entry that another worker put first also describes what we wrote.

        If not, the shard may hold arrays of both workers: the entry is dropped, and the shard is
        written again. The last worker always gets here, so the shard ends up as one worker's.
        """
        ledger = self.store.ledger
        fingerprint = ledger.fingerprint(ours.shard)
        if not fingerprint:
            return False
        if self.store.entry(ours.shard).digests == ours.digests:
            return True
        ledger.drop(ours.shard, fingerprint)
        return False

    def _ordered(self, shard: Shard, rows: Sequence[_Row]) -> list[_Row]:
        """Check that these are the rows of the shard, and return them in its order."""
        where = f"shard {shard.index} of {self.store.path}"
        tokens = Counter(row.frame.token for row in rows)
        if tokens != Counter(shard.tokens):
            missing = sorted(set(shard.tokens) - set(tokens))
            surplus = sorted((tokens - Counter(shard.tokens)).elements())
            raise CacheError(
                f"{where} can only be written completely: it holds {len(shard.tokens)} samples, "
                f"got {len(rows)}; missing {', '.join(missing) or 'none'}, too many "
                f"{', '.join(surplus) or 'none'}"
            )
        samples = self.store.samples
        by_token = {row.frame.token: row for row in rows}
        for position, token in enumerate(shard.tokens, start=shard.start):
            frame = by_token[token].frame
            expected = (shard.variant, samples.scenes[position], samples.timestamps_us[position])
            actual = (frame.variant, frame.scene, frame.timestamp_us)
            if actual != expected:
                raise CacheError(
                    f"{where}, sample {token}: (variant, scene, timestamp_us) is {expected} in the "
                    f"store, got {actual}; the store was created for a different dataset"
                )
        return [by_token[token] for token in shard.tokens]

    def _write_arrays(
        self, shard: Shard, encoded: Sequence[EncodedRow], *, has_partials: bool
    ) -> int:
        """Write the shard's file of every array; return their total size in bytes.

        Of a store that memory cannot hold, pages would be gone before training reads them.
        """
        shard_bytes = sum(row.disk_bytes for row in encoded)
        is_cached = shard_bytes * len(self.store.all_shards) <= available_memory_bytes()
        size = 0
        for spec in self.store.arrays:
            file = self.store.file(spec, shard.index)
            if has_partials:
                file.remove_partials()
            sealed = (row.sealed[spec.name] for row in encoded)
            size += write_shard_file(file, sealed, self.store.layout.slots, is_cached=is_cached)
        return size


def _entry(
    shard: Shard, encoded: Sequence[EncodedRow], size: int, seconds: float, identity: str
) -> LedgerEntry:
    """Return the ledger entry of a shard whose bytes are on disk."""
    return LedgerEntry(
        shard=shard.index,
        variant=shard.variant,
        tokens=shard.tokens,
        digests={name: tuple(row.digests[name] for row in encoded) for name in encoded[0].digests},
        statistics=merge_by_array(row.statistics for row in encoded),
        bytes_on_disk=size,
        write_seconds=round(seconds, 3),
        software=_software(),
        written_at=datetime.now(UTC).isoformat(timespec="seconds"),
        sources=ShardSources.of([row.sources for row in encoded]),
        identity=identity,
    )


@cache
def _software() -> dict[str, str]:
    """Return the versions of what writes; looking them up reads and parses files."""
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "zarr": version("zarr"),
        "numcodecs": version("numcodecs"),
    }
