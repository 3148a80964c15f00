"""Encodes and writes one shard in a thread while the next is computed."""

import logging
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from cache.coordination.claims import Claims
from cache.format.layout import Shard
from cache.writer import StoreWriter
from shared.data.features import FrameFeatures

log = logging.getLogger(__name__)


class BackgroundWriter:
    """Writes shards one at a time; leaving the context finishes the shard being written.

    NumPy, the compressors, SHA-256 and the disk run without Python's global lock, so this thread
    hardly slows down the computing thread.

    Args:
        writer: of the store.
        claims: a shard is released once it is written.
    """

    def __init__(self, writer: StoreWriter, claims: Claims) -> None:
        self._writer = writer
        self._claims = claims
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="shard-writer")
        self._writing: Future[None] | None = None
        self.finished = 0  # shards on disk, with their ledger entries

    def __enter__(self) -> "BackgroundWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._pool.shutdown()  # waits for the shard being written
        try:
            self.check()
        except Exception as late:
            if error is None:
                raise
            log.error("the shard that was being written is lost as well: %s", late)
        finally:
            self._claims.release_all()

    def write(self, shard: Shard, rows: Sequence[FrameFeatures]) -> None:
        """Wait until the previous shard is written, then start on this shard.

        Raises: as `check`.
        """
        self.wait()
        self._writing = self._pool.submit(self._write, shard, rows)

    def wait(self) -> None:
        """Wait until nothing is being written.

        Raises: as `check`.
        """
        if self._writing is not None:
            self._writing.exception()
        self.check()

    def check(self) -> None:
        """Raise the error of the last shard, if writing it has failed by now.

        Raises:
            CacheError: see `StoreWriter.write_shard`.
        """
        if self._writing is not None and self._writing.done():
            done, self._writing = self._writing, None
            done.result()

    def _write(self, shard: Shard, rows: Sequence[FrameFeatures]) -> None:
        self._writer.write_shard(shard, rows)
        self.finished += 1
        self._claims.release(shard.index)
