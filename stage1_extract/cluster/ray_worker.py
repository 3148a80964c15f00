"""A worker: it builds the backbones once and extracts the shards that the driver hands it.

Several shards are in work at a time, each in a thread of its own with the loader and the writers
of every extraction: while one is computed, others are loaded and written, and what fails is known
to be that shard's. Ray makes an actor of the class.
"""

import os
import socket
import threading
import warnings
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from threadpoolctl import threadpool_limits

from cache.coordination.claims import Claims
from shared.errors import FrozenCmtError
from stage1_extract.backbones.live import LiveFeatures, RawBatch
from stage1_extract.cluster.loading_tasks import LoadingTasks, frames_at
from stage1_extract.extraction.extraction_job import ExtractionJob
from stage1_extract.extraction.fill_store import (
    compute_batches,
    planned_batches,
    require_unchanged,
)
from stage1_extract.extraction.stages.device_pass import ComputedBatch, DevicePass
from stage1_extract.extraction.stages.loader_processes import Loaded, Place, load_timed
from stage1_extract.extraction.stages.raw_loader import RawLoader
from stage1_extract.extraction.stages.shard_writers import EncodingThreads, ShardWriters
from stage1_extract.extraction.stages.stage_rates import STAGES, Stage, StageRates
from stage1_extract.extraction.stages.stage_widths import MOST_WRITERS, choose_widths
from stage1_extract.preprocessing.raw_frames import RawFrames

# One is loaded, one computed, one written.
SHARDS_AT_A_TIME = 3
StageTotals = dict[Stage, tuple[float, float]]  # seconds and samples


class StoppedShardError(FrozenCmtError):
    """A shard that was dropped because the run is ending."""


@dataclass(frozen=True, slots=True)
class StartedWorker:
    """What a worker says of itself when it is ready.

    Args:
        place: machine and process, for people.
        writers: threads that encode.
        about: preset, device and weights, for people.
    """

    place: str
    writers: int
    about: str


class LoadingInTurn:
    """A `SamplePool` of this process that loads one sample at a time: all share one voxel grid.

    Args:
        frames: loads samples.
    """

    def __init__(self, frames: RawFrames) -> None:
        self._frames, self._turn = frames, threading.Lock()

    def load(self, place: Place) -> Future[Loaded]:
        """Load a sample before this returns."""
        loaded: Future[Loaded] = Future()
        with self._turn:
            loaded.set_result(load_timed(self._frames, place))
        return loaded


class RayWorker:
    """Extracts shards; `extract` may be called from several threads at a time."""

    def __init__(self) -> None:
        self._is_stopped = threading.Event()
        self._turn = threading.Lock()

    def start(
        self,
        job: ExtractionJob,
        frames: Sequence[Any],
        *,
        cores: int,
        loading: int,
        is_first: bool,
    ) -> StartedWorker:
        """Build the backbones and open the store.

        Args:
            job: the extraction.
            frames: a single reference to a `RawFrames`; Ray resolves what is not in a sequence.
            cores: that this worker may use.
            loading: tasks that load for it at a time; 0 loads here.
            is_first: see `ExtractionJob.open`.

        Raises:
            FrozenCmtError: see `ExtractionJob.open`.
        """
        threadpool_limits(1, "blas")  # of the whole process, see `fill_store`
        # Samples arrive in shared memory that is not to be written to, which nobody does.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        raw = frames_at(frames)
        opened = job.open(tuple(raw.records), is_first=is_first)
        self._writer, self._frozen = opened.writer, opened.frozen
        self._batch_size = opened.batch_size
        self._live = LiveFeatures(raw.records, opened.frozen, raw.variants)
        self._device_pass = DevicePass(self._live)
        self._loading, self._cores = loading, cores
        self._pool = LoadingTasks(frames) if loading else LoadingInTurn(self._live.raw)
        self._digests = opened.frozen.digests()
        return StartedWorker(
            place=f"{socket.gethostname()}, process {os.getpid()}",
            writers=min(cores, MOST_WRITERS),
            about=opened.about,
        )

    def extract(self, index: int) -> StageTotals:
        """Extract a shard.

        Returns:
            The time that its samples spent in each stage.

        Raises:
            StoppedShardError: after `stop`, if the shard was not computed by then.
            FrozenCmtError: as `fill_store` does.
        """
        store = self._writer.store
        rates = StageRates(dict.fromkeys(STAGES, 1))
        loader = RawLoader(
            self._live,
            planned_batches([store.shard(index)], self._batch_size),
            batch_size=self._batch_size,
            workers=self._loading,
            is_padded=self._frozen.device.type != "cpu",
            rates=rates,
            pool=self._pool,
        )
        writers = ShardWriters(
            EncodingThreads(self._writer),
            Claims(store),  # the driver has the shard's
            choose_widths(0, self._cores, slots=store.layout.slots, batch_rows=self._batch_size),
            rates=rates,
        )

        def check() -> None:
            writers.check()
            if self._is_stopped.is_set():
                writers.finish()
                if not writers.finished:
                    raise StoppedShardError(f"shard {index} was dropped")

        with writers, loader:
            compute_batches(self._compute, loader, writers, lambda _: None, check)
            writers.finish()
            check()
        return rates.totals()

    def stop(self) -> None:
        """Drop what is not computed yet; `extract` returns as soon as the rest is written."""
        self._is_stopped.set()

    def require_unchanged(self) -> None:
        """Make sure that nothing has written to the backbones.

        Raises:
            FrozenError: if something has.
        """
        require_unchanged(self._digests, self._frozen.digests())

    def _compute(self, batch: RawBatch) -> ComputedBatch:
        with self._turn:  # cuDNN's flags belong to the process, see `fixed_algorithms`
            return self._device_pass(batch)
