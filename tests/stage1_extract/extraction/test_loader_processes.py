"""Loader processes: the samples of a thread, one core each, no longer than their parent."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import threadpoolctl
import torch
from torch import Tensor

from shared.config.augmentation import Augmentation, VariantDraws
from shared.config.preset_catalogue import tiny
from stage1_extract.extraction.stages.loader_processes import LoaderProcesses
from stage1_extract.extraction.stages.stage_widths import most_raw_bytes
from stage1_extract.nuscenes.nuscenes_tables import read_tables
from stage1_extract.preprocessing.raw_frames import RawFrame, RawFrames
from tests.cache.conftest import TOKENS, make_features
from tests.child_processes import PATIENCE_S, REPOSITORY
from tests.stage1_extract.extraction.faulty_frames import FaultyFrames, NamedFrame

PIPE_BYTES = 65_536  # that Linux takes before it waits for the reader
WAIT_S = 10


class Threads(FaultyFrames):
    """Its images are the numbers of threads that libraries use where they are loaded."""

    def __getitem__(self, place: tuple[int, int]) -> NamedFrame:
        libraries = [info for info in threadpoolctl.threadpool_info() if info["user_api"] == "blas"]
        numbers = [torch.get_num_threads(), cv2.getNumThreads()]
        numbers += [info["num_threads"] for info in libraries]
        return NamedFrame(self.frames[0], torch.tensor(numbers), None)


def tensors(sample: RawFrame) -> list[Tensor]:
    voxels = sample.voxels
    assert sample.images is not None
    assert voxels is not None
    return [sample.images, voxels.means, voxels.coordinates]


def test_samples_are_those_that_a_thread_loads_though_slots_are_used_again(
    synthetic_root: Path,
) -> None:
    records = read_tables(synthetic_root, "v1.0-mini", "mini_train")
    draws = VariantDraws(augmentation=Augmentation(grid_mask_probability=1.0))
    frames = RawFrames(records, tiny(), draws)
    places = [(index % 2, index % len(frames)) for index in range(6)]
    pool = LoaderProcesses(frames, 2, sample_bytes=most_raw_bytes(tiny()), in_flight=2)
    try:
        for place in places:
            sample, seconds = pool.load(place).result(PATIENCE_S)
            alone = frames[place]
            for ours, expected in zip(tensors(sample), tensors(alone), strict=True):
                assert ours.dtype == expected.dtype
                assert torch.equal(ours, expected)
            assert (sample.frame.token, sample.sources) == (alone.frame.token, alone.sources)
            np.testing.assert_array_equal(sample.stripes, alone.stripes)
            assert (sample.stripes is None) == (place[0] == 0)
            assert seconds > 0
    finally:
        pool.close()


def test_what_is_not_loaded_when_the_pool_closes_ends_with_an_error() -> None:
    frames = FaultyFrames(tuple(make_features(token).frame for token in TOKENS), "hangs")
    pool = LoaderProcesses(frames, 1, sample_bytes=1024, in_flight=8)  # type: ignore[arg-type]
    begun = [pool.load((0, 3)) for _ in range(8)]  # one hangs, the others wait
    pool.close()
    for sample in begun:
        with pytest.raises((CancelledError, BrokenProcessPool)):
            sample.result(PATIENCE_S)


def test_each_keeps_to_one_thread() -> None:
    frames = Threads((make_features("ant").frame,))
    pool = LoaderProcesses(frames, 1, sample_bytes=1024, in_flight=1)  # type: ignore[arg-type]
    try:
        images = pool.load((0, 0)).result(PATIENCE_S)[0].images
    finally:
        pool.close()
    assert images is not None
    assert len(images) >= 3
    assert set(images.tolist()) == {1}


def test_a_process_reads_ahead_what_is_begun_as_many_samples_later_as_there_are_processes() -> None:
    frames = ReadAhead((make_features("ant").frame,))
    pool = LoaderProcesses(frames, 1, sample_bytes=1024, in_flight=4)  # type: ignore[arg-type]
    try:
        for start in (0, 10):  # slots are used again
            begun = [pool.load((1, start + index)) for index in range(4)]
            images = [sample.result(PATIENCE_S)[0].images for sample in begun]
            ahead = [int(image) for image in images if image is not None]
            # The first may find no other begun, and the last does find none.
            assert ahead[1:] == [start + 2, start + 3, start + 3]
    finally:
        pool.close()


def test_a_process_is_started_without_waiting_until_it_has_what_it_is_sent(
    tmp_path: Path,
) -> None:
    """Otherwise each waits until the one before has imported everything."""
    file = tmp_path / "started"
    frames = SlowToArrive((make_features("ant").frame,), witness=LateWitness(file))
    pool = LoaderProcesses(frames, 1, sample_bytes=1024, in_flight=1)  # type: ignore[arg-type]
    try:
        sample = pool.load((0, 0))
        file.touch()
        images = sample.result(PATIENCE_S)[0].images
    finally:
        pool.close()
    assert images is not None
    assert images.all(), "the process had to wait for whoever started it"


def test_none_outlives_a_parent_that_is_killed() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-m", __name__], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert Path(f"/proc/{child}").exists()
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + PATIENCE_S
    while Path(f"/proc/{child}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class LateWitness:
    """Unpickled once its file exists, or in vain after a while."""

    def __init__(self, file: Path) -> None:
        self.file, self.was_there = file, True

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        deadline = time.monotonic() + WAIT_S
        while not self.file.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        self.was_there = self.file.exists()


@dataclass
class SlowToArrive(FaultyFrames):
    """More than a pipe holds, behind something that takes its time."""

    witness: LateWitness | None = None
    content: bytes = bytes(8 * PIPE_BYTES)

    def __getitem__(self, place: tuple[int, int]) -> NamedFrame:
        assert self.witness is not None
        return NamedFrame(self.frames[0], torch.tensor([self.witness.was_there]), None)


@dataclass
class ReadAhead(FaultyFrames):
    """Its images are the number of the sample that was read ahead last."""

    last: int = -1

    def begin_reading(self, place: tuple[int, int]) -> None:
        assert place[0] == 1  # the variant
        self.last = place[1]

    def __getitem__(self, place: tuple[int, int]) -> NamedFrame:
        time.sleep(0.2)  # until more are begun
        return NamedFrame(self.frames[0], torch.tensor([self.last]), None)


class Numbered(FaultyFrames):
    """Its images are the number of the process; then it hangs."""

    def __getitem__(self, place: tuple[int, int]) -> NamedFrame:
        if place[1]:
            self.fail()
        return NamedFrame(self.frames[0], torch.tensor([os.getpid()]), None)


if __name__ == "__main__":
    from tests.stage1_extract.extraction import test_loader_processes as importable

    numbered = importable.Numbered((make_features("ant").frame,), "hangs")
    loaders = LoaderProcesses(numbered, 1, sample_bytes=1024, in_flight=2)  # type: ignore[arg-type]
    images = loaders.load((0, 0)).result()[0].images
    assert images is not None
    loaders.load((0, 1))
    print(int(images), flush=True)
    signal.pause()
