"""Loads raw files in Ray tasks, on whichever machine has a free core.

Ray runs a task again whose process or machine died, and moves the sample to the machine that asked.
"""

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, cast

import ray
import torch
from ray.util import register_serializer

from stage1_extract.extraction.stages.loader_processes import (
    Loaded,
    Place,
    keep_to_one_core,
    load_timed,
)
from stage1_extract.preprocessing.raw_frames import RawFrames

_FRAMES: dict[Any, RawFrames] = {}  # of this process, by reference


class LoadingTasks:
    """A `SamplePool` of tasks.

    Args:
        frames: a single reference to a `RawFrames`.
    """

    def __init__(self, frames: Sequence[Any]) -> None:
        self._frames = frames
        _share_tensors()

    def load(self, place: Place) -> Future[Loaded]:
        """Begin to load a sample, as soon as a core is free."""
        return cast("Future[Loaded]", _load_sample.remote(self._frames, place).future())


def frames_at(frames: Sequence[Any]) -> RawFrames:
    """Return the referenced frames, which every process fetches once."""
    (reference,) = frames
    if reference not in _FRAMES:
        _FRAMES.clear()  # of an earlier run
        _FRAMES[reference] = ray.get(reference)
    return _FRAMES[reference]


@ray.remote(num_cpus=1)  # type: ignore[untyped-decorator]
def _load_sample(frames: Sequence[Any], place: Place) -> Loaded:
    keep_to_one_core()
    _share_tensors()
    return load_timed(frames_at(frames), place)


def _share_tensors() -> None:
    """Let tensors travel as arrays, which a process reads where Ray has put them: no copy."""
    register_serializer(torch.Tensor, serializer=torch.Tensor.numpy, deserializer=torch.from_numpy)
