"""Loader processes: the samples of a thread, one core each, no longer than their parent."""

import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import cv2
import pytest
import threadpoolctl
import torch
from torch import Tensor

from shared.config.preset_catalogue import r50_800x320, tiny
from stage1_extract.extraction.stages.loader_processes import LoaderProcesses
from stage1_extract.extraction.stages.stage_widths import most_raw_bytes
from stage1_extract.nuscenes.nuscenes_tables import read_tables
from stage1_extract.preprocessing.raw_frames import RawFrame, RawFrames
from tests.cache.conftest import TOKENS, make_features
from tests.child_processes import PATIENCE_S, REPOSITORY
from tests.stage1_extract.extraction.faulty_frames import FaultyFrames, NamedFrame

PIPE_BYTES = 65_536  # that Linux takes before it waits for the reader


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
    return [sample.images, voxels.points, voxels.coordinates, voxels.counts]


def test_samples_are_those_that_a_thread_loads_though_slots_are_used_again(
    synthetic_root: Path,
) -> None:
    frames = RawFrames(read_tables(synthetic_root, "v1.0-mini", "mini_train"), tiny())
    places = [(0, index % len(frames)) for index in range(6)]
    pool = LoaderProcesses(frames, 2, sample_bytes=most_raw_bytes(tiny()), in_flight=2)
    try:
        for place in places:
            sample, seconds = pool.load(place).result(PATIENCE_S)
            alone = frames[place]
            for ours, expected in zip(tensors(sample), tensors(alone), strict=True):
                assert ours.dtype == expected.dtype
                assert torch.equal(ours, expected)
            assert (sample.frame.token, sample.sources) == (alone.frame.token, alone.sources)
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


@pytest.mark.parametrize("preset", [tiny(), r50_800x320()], ids=lambda preset: preset.name)
def test_a_process_is_sent_less_than_a_pipe_holds_however_many_records_there_are(
    synthetic_root: Path, preset: object
) -> None:
    """Otherwise starting it waits until it has imported everything, and so does the next."""
    records = read_tables(synthetic_root, "v1.0-mini", "mini_train")
    frames = RawFrames(records, preset)  # type: ignore[arg-type]
    assert len(pickle.dumps(frames.with_records(()))) < PIPE_BYTES / 4


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
