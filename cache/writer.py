"""The write side: whole shards in any order, by any number of workers, resumable after a kill."""

import platform
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np

from cache.coordination.free_space import explain_failed_write
from cache.coordination.ledger import LedgerEntry
from cache.coordination.shard_sources import ShardSources
from cache.coordination.store import Store, open_store
from cache.format.codec import CODECS
from cache.format.layout import Shard
from cache.format.row_codec import decode_maps, encode_frame
from cache.format.schema import BOX_COUNT, ArraySpec, Row, row_digest
from cache.format.shard_file import write_shard_file
from cache.format.statistics import Statistics, merge_by_array
from cache.storage.protocol import StorePath
from shared.data.features import FrameFeatures, as_floats
from shared.errors import CacheError


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
        ordered = self._ordered(shard, rows)
        encoded = [encode_frame(self.store.arrays, features) for features in ordered]
        sources = ShardSources.of([features.sources for features in ordered])
        ledger = self.store.ledger
        try:
            with ledger.lock(shard.index) as is_locked:
                if ledger.path(shard.index).exists():
                    return False
                started = time.monotonic()
                while True:
                    size = self._write_arrays(shard, encoded, is_locked=is_locked)
                    entry = _entry(shard, self.store.arrays, encoded, sources, size, started)
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
        if ledger.read(ours.shard).digests == ours.digests:
            return True
        ledger.drop(ours.shard, fingerprint)
        return False

    def _ordered(self, shard: Shard, rows: Sequence[FrameFeatures]) -> list[FrameFeatures]:
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

    def _write_arrays(self, shard: Shard, encoded: Sequence[Row], *, is_locked: bool) -> int:
        """Write the shard's file of every array; return their total size in bytes."""
        size = 0
        for spec in self.store.arrays:
            file = self.store.file(spec, shard.index)
            if is_locked:
                file.remove_partials()
            chunks = (CODECS[spec.codec].encode_row(row[spec.name]) for row in encoded)
            size += write_shard_file(file, chunks, self.store.layout.slots)
        return size


def _entry(
    shard: Shard,
    specs: Sequence[ArraySpec],
    encoded: Sequence[Row],
    sources: ShardSources | None,
    size: int,
    started: float,
) -> LedgerEntry:
    """Return the ledger entry of a shard whose bytes are on disk."""
    digests = {
        spec.name: tuple(row_digest(spec, row[spec.name], int(row[BOX_COUNT])) for row in encoded)
        for spec in specs
    }
    statistics: list[Mapping[str, Statistics]] = [
        {name: Statistics.of(as_floats(values)) for name, values in decode_maps(specs, row).items()}
        for row in encoded
    ]
    return LedgerEntry(
        shard=shard.index,
        variant=shard.variant,
        tokens=shard.tokens,
        digests=digests,
        statistics=merge_by_array(statistics),
        bytes_on_disk=size,
        write_seconds=round(time.monotonic() - started, 3),
        software={
            "python": platform.python_version(),
            "numpy": np.__version__,
            "zarr": version("zarr"),
            "numcodecs": version("numcodecs"),
        },
        written_at=datetime.now(UTC).isoformat(timespec="seconds"),
        sources=sources,
    )
