"""Processes that load raw samples, one at a time each.

Images and voxels arrive in memory that all of them map. What is to be loaded lies in such memory as
well, so that little is sent to a process when it starts, see `process_pool`.

Before a process loads a sample, it lets Linux begin to read the files of the sample that will be
its next or so: those of nuScenes come from a disk, once, and 17 of them one after the other would
keep it waiting.

This module imports nothing of the backbones: a process starts as fast as what it loads allows.
"""

import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import cache
from itertools import count
from typing import Any

import cv2
import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from shared.process.device import ALIGNMENT, unpack
from shared.process.memory.shared_sequence import SharedSequence
from shared.process.memory.shared_slots import SharedSlots
from stage1_extract.extraction.stages.process_pool import ProcessPool
from stage1_extract.nuscenes.records import SampleRecord
from stage1_extract.preprocessing.raw_frames import RawFrame, RawFrames
from stage1_extract.preprocessing.voxels import Voxels

Place = tuple[int, int]  # variant, sample
Loaded = tuple[RawFrame, float]  # a sample, and the seconds that loading it took
Layout = tuple[tuple[int, ...], torch.dtype]  # of a tensor in a slot
INT64 = np.dtype(np.int64)
TENSORS = 3  # of a sample: images; means and coordinates of voxels


class LoaderProcesses:
    """A pool of processes.

    Args:
        frames: loads samples.
        workers: processes.
        sample_bytes: of a sample's images and voxels, at most; see `most_raw_bytes`.
        in_flight: samples that are loaded or being loaded at a time, at most.
    """

    def __init__(
        self, frames: RawFrames, workers: int, *, sample_bytes: int, in_flight: int
    ) -> None:
        self._slots = SharedSlots(sample_bytes + TENSORS * ALIGNMENT, in_flight)
        self._begun = _BegunSamples(in_flight)
        self._numbers = count()
        # Not only records: a condition knows what it does to each of thousands of samples.
        self._frames = SharedSequence([frames.with_records(())])
        self._records = SharedSequence(frames.records)
        sent = self._frames, self._records, self._slots, self._begun
        self._pool = ProcessPool(workers, _prepare_process, *sent, workers)

    def load(self, place: Place) -> Future[Loaded]:
        """Begin to load a sample; starts a process if all are busy.

        Its tensors are overwritten by the sample that is begun `in_flight` samples later.
        """
        loaded = Future[Loaded]()

        def arrived(answered: Future[_Answer]) -> None:
            try:
                loaded.set_result(answered.result().loaded(self._slots))
            except BaseException as error:  # of the process, or that `close` cancelled it
                loaded.set_exception(error)

        number = next(self._numbers)
        self._begun.put(number, place)
        self._pool.submit(_load, place, number).add_done_callback(arrived)
        return loaded

    def close(self) -> None:
        """End the processes, whatever they do: they only read, so killing them loses nothing."""
        self._pool.close()
        for memory in (self._frames, self._records, self._slots, self._begun):
            memory.close_file()


class _BegunSamples:
    """Which samples are begun, by number, in memory that all processes map.

    Args:
        count: numbers that are remembered at a time.
    """

    def __init__(self, count: int) -> None:
        self._slots = SharedSlots(3 * INT64.itemsize, count)

    def put(self, number: int, place: Place) -> None:
        """Tell all processes."""
        self._slots.slot(number).view(INT64)[:] = *place, number

    def place(self, number: int) -> Place | None:
        """Return the place of a sample, None if it is not begun, or forgotten.

        While `put` overwrites it, it may be any other: files are read ahead in vain.
        """
        variant, sample, there = self._slots.slot(number).view(INT64).tolist()
        return (variant, sample) if there == number else None

    def close_file(self) -> None:
        """Send it to no further process."""
        self._slots.close_file()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Answer:
    """A sample whose tensors are in a slot.

    Args:
        frame: without images and voxels.
        number: of the slot.
        layouts: of the tensors, the images first, if there are any.
        has_images: whether there are.
        seconds: that loading took.
    """

    frame: RawFrame
    number: int
    layouts: Sequence[Layout]
    has_images: bool
    seconds: float

    def loaded(self, slots: SharedSlots) -> Loaded:
        """Return the sample, with tensors that lie in the slot."""
        tensors = _tensors_in(slots, self.number, self.layouts)
        images = tensors.pop(0) if self.has_images else None
        voxels = None
        if tensors:
            means, coordinates = tensors
            voxels = Voxels(means=means, coordinates=coordinates)
        return replace(self.frame, images=images, voxels=voxels), self.seconds


_FRAMES: list[tuple[RawFrames, SharedSlots, _BegunSamples, int]] = []  # of a loader process


def _prepare_process(
    frames: SharedSequence[RawFrames],
    records: SharedSequence[SampleRecord],
    slots: SharedSlots,
    begun: _BegunSamples,
    workers: int,
) -> None:
    keep_to_one_core()
    _FRAMES[:] = [(frames[0].with_records(records), slots, begun, workers)]


@cache
def keep_to_one_core() -> None:
    """Let libraries use no threads: of 16 processes with 16 each, most would wait for a core.

    Takes effect once in a process, since looking for the libraries takes milliseconds.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    threadpool_limits(1, "blas")


def _load(place: Place, number: int) -> _Answer:
    frames, slots, begun, workers = _FRAMES[0]
    if (soon := begun.place(number + workers)) is not None:
        frames.begin_reading(soon)
    frame, seconds = load_timed(frames, place)
    tensors = [] if frame.images is None else [frame.images]
    if frame.voxels is not None:
        tensors += [frame.voxels.means, frame.voxels.coordinates]
    layouts = [(tuple(tensor.shape), tensor.dtype) for tensor in tensors]
    for place_in_slot, tensor in zip(_tensors_in(slots, number, layouts), tensors, strict=True):
        place_in_slot.copy_(tensor)
    return _Answer(
        frame=replace(frame, images=None, voxels=None),
        number=number,
        layouts=layouts,
        has_images=frame.images is not None,
        seconds=seconds,
    )


def _tensors_in(slots: SharedSlots, number: int, layouts: Sequence[Layout]) -> list[Tensor]:
    like: list[Any] = [torch.empty(shape, dtype=dtype, device="meta") for shape, dtype in layouts]
    return unpack(torch.from_numpy(slots.slot(number)), like=like)


def load_timed(frames: RawFrames, place: Place) -> Loaded:
    """Load a sample, in whatever process this is."""
    started = time.monotonic()
    frame = frames[place]
    return frame, time.monotonic() - started
