"""Processes that load raw samples, one at a time each.

This module imports nothing of the backbones: a process starts as fast as what it loads allows.
"""

import contextlib
import multiprocessing
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import resource_tracker

import torch

from shared.process.interrupts import Interrupts
from stage1_extract.preprocessing.raw_frames import RawFrame, RawFrames

Place = tuple[int, int]  # variant, sample
Loaded = tuple[RawFrame, float]  # a sample, and the seconds that loading it took


class LoaderProcesses:
    """A pool of processes.

    Args:
        frames: loads samples; sent to every process once.
        workers: processes.
    """

    def __init__(self, frames: RawFrames, workers: int) -> None:
        self._others = set(multiprocessing.active_children())
        self._executor = ProcessPoolExecutor(
            workers,
            mp_context=multiprocessing.get_context("spawn"),  # a fork would copy CUDA's state
            initializer=_prepare_process,
            initargs=(frames,),
        )

    def load(self, place: Place) -> Future[Loaded]:
        """Begin to load a sample; starts a process if all are busy."""
        with _children_without_signals():
            return self._executor.submit(_load, place)

    def close(self) -> None:
        """End the processes, whatever they do: they only read, so killing them loses nothing."""
        self._executor.shutdown(wait=False, cancel_futures=True)  # from now on none is started
        processes = set(multiprocessing.active_children()) - self._others
        for process in processes:
            process.kill()
        for process in processes:
            process.join()


_FRAMES: list[RawFrames] = []  # of a loader process


def _prepare_process(frames: RawFrames) -> None:
    torch.set_num_threads(1)  # parallelism comes from the processes
    _FRAMES[:] = [frames]


def _load(place: Place) -> Loaded:
    return load_timed(_FRAMES[0], place)


def load_timed(frames: RawFrames, place: Place) -> Loaded:
    """Load a sample, in whatever process this is."""
    started = time.monotonic()
    frame = frames[place]
    return frame, time.monotonic() - started


@contextlib.contextmanager
def _children_without_signals() -> Iterator[None]:
    """Leave Ctrl-C and SIGTERM, which reach the whole process group, to the parent process."""
    resource_tracker.ensure_running()  # else the first child starts it, which lifts the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, Interrupts.SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
