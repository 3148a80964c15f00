"""An opened store: what it is, which samples and shards it has, and how a row is read."""

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from cache.coordination.ledger import LEDGER_GROUP, EntryError, Ledger, LedgerEntry
from cache.coordination.resume_command import resume_command
from cache.format.codec import CODECS, DamageError
from cache.format.identity import is_inside, rows_digest
from cache.format.layout import Layout, Shard
from cache.format.metadata import METADATA_FILE, Metadata, read_metadata
from cache.format.samples import Samples, read_samples
from cache.format.schema import ArraySpec
from cache.format.shard_file import read_row
from cache.storage.location import absolute_place, as_store_path
from cache.storage.protocol import StorePath
from shared.errors import CacheError

SHOWN_LENGTH = 12  # characters of a digest in a message


@dataclass(frozen=True, kw_only=True, slots=True)
class Store:
    """A store; holds no open file.

    Args:
        path: of the Zarr group.
        metadata, samples: read once when the store is opened.
        ledger: which shards are complete, looked up each time.
    """

    path: StorePath
    metadata: Metadata
    samples: Samples
    ledger: Ledger

    @property
    def layout(self) -> Layout:
        """Where rows are stored."""
        return self.metadata.layout

    @property
    def arrays(self) -> tuple[ArraySpec, ...]:
        """Every array of a row."""
        return self.metadata.arrays

    @property
    def command(self) -> str:
        """The line to paste to finish or repair the store where it is now."""
        place = absolute_place(self.path).parent if is_inside(self.metadata.identity) else self.path
        return resume_command(self.metadata.provenance.command, place)

    def shard(self, index: int) -> Shard:
        """Describe a shard."""
        variant, samples = self.layout.span(index)
        return Shard(
            index=index,
            variant=variant,
            start=samples.start,
            tokens=self.samples.tokens[samples.start : samples.stop],
        )

    def file(self, spec: ArraySpec, shard: int) -> StorePath:
        """Return the file with an array of a shard."""
        return self.path / f"{spec.name}/{self.layout.chunk_key(shard, len(spec.shape))}"

    def rows_in(self, shards: frozenset[int]) -> int:
        """Count the rows of these shards."""
        return sum(len(self.layout.span(shard)[1]) for shard in shards if shard in self.all_shards)

    @property
    def all_shards(self) -> range:
        """Numbers of all shards."""
        return range(self.layout.shard_count)

    def entry(self, shard: int) -> LedgerEntry:
        """Read the ledger entry of a shard, and make sure that it belongs to this store.

        Raises:
            EntryError: if it is damaged, or describes rows of something else.
        """
        entry, wanted = self.ledger.read(shard), self.shard(shard)
        where = f"ledger entry {self.ledger.path(shard)}"
        if (entry.shard, entry.variant, entry.tokens) != (shard, wanted.variant, wanted.tokens):
            raise EntryError(f"{where} describes different rows")
        expected = rows_digest(self.metadata.identity, wanted.variant)
        if entry.identity not in (None, expected):
            raise EntryError(
                f"{where} is of a different store: its rows were made from "
                f"{str(entry.identity)[:SHOWN_LENGTH]}..., those of this store are made from "
                f"{expected[:SHOWN_LENGTH]}... (digests of identities); files of two stores were "
                "mixed"
            )
        return entry

    def entries(self, shards: Iterable[int]) -> Iterator[LedgerEntry]:
        """Read the ledger entries of several shards, in their order.

        Raises:
            CacheError: as `entry`, with the remedy.
        """
        try:
            yield from self.path.for_each(self.entry, shards)
        except EntryError as error:
            raise CacheError(
                f"{error}. Run `feature-cache verify {shlex.quote(str(self.path))} --repair`, then "
                f"the extraction again: {self.command}"
            ) from error

    def read_array(
        self, spec: ArraySpec, variant: int, sample: int, buffer: NDArray[Any] | None = None
    ) -> NDArray[Any]:
        """Read an array of a row, whether or not the shard is in the ledger.

        Args:
            spec: the array.
            variant: of the row.
            sample: its position in the store.
            buffer: a contiguous array to read into and return, instead of a new one.

        Raises:
            DamageError: if the bytes are not those that were written.
        """
        shard, slot = self.layout.locate(variant, sample)
        file, slots = self.file(spec, shard), self.layout.slots
        payload = read_row(file, slot, slots, is_passing=buffer is not None)
        return CODECS[spec.codec].decode(payload, spec.shape, spec.dtype, buffer)

    def damage(self, spec: ArraySpec, variant: int, sample: int, error: DamageError) -> CacheError:
        """Return the error to raise for a row that cannot be read."""
        is_missing = isinstance(error.__cause__, FileNotFoundError)
        if is_missing and not (self.path / METADATA_FILE).is_file():
            return CacheError(
                f"{self.path} is no longer there: its disk was unmounted, or it was moved or "
                "deleted. If it comes back, nothing is lost: run the same command again"
            )
        shard, _ = self.layout.locate(variant, sample)
        return CacheError(
            f"{spec.name} of sample {self.samples.tokens[sample]}, variant {variant} is damaged in "
            f"shard {shard} of {self.path}: {error}. {self.repair(shard)}"
        )

    def repair(self, shard: int) -> str:
        """Say how to rebuild a damaged shard."""
        return (
            f"To rebuild shard {shard}, run `feature-cache verify {shlex.quote(str(self.path))} "
            f"--repair`, then the extraction again: {self.command}"
        )


def open_store(path: Path | StorePath) -> Store:
    """Open the store at `path`, finished or not.

    Raises:
        CacheError: if it is not a store, or its metadata or sample list is damaged.
    """
    path = as_store_path(path)
    metadata = read_metadata(path)
    samples = read_samples(path, metadata.samples_digest)
    if not (path / LEDGER_GROUP).is_dir():
        raise CacheError(f"{path} has lost its ledger directory; restore it from a copy")
    return Store(path=path, metadata=metadata, samples=samples, ledger=Ledger(path))
