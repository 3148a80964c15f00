"""Frames for the tests of loading, which a process imports in no time."""

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from shared.config.preset import Preset
from shared.config.preset_catalogue import tiny
from shared.data.features import Frame, Sources
from shared.errors import DatasetError


@dataclass
class NamedFrame:
    """Stands in for `RawFrame`."""

    frame: Frame
    images: Tensor | None
    voxels: None
    sources: Sources = field(default_factory=dict)
    stripes: None = None


@dataclass
class FaultyFrames:
    """Stands in for `RawFrames`: sample 3 does what `fault` says."""

    frames: tuple[Frame, ...]
    fault: str = ""
    records: Sequence[Frame] = ()
    preset: Preset = field(default_factory=tiny)

    def with_records(self, records: Sequence[Frame]) -> "FaultyFrames":
        """Return the same: the frames are these samples' records."""
        return self

    def begin_reading(self, place: tuple[int, int]) -> None:
        """Do nothing: there are no files."""

    def __getitem__(self, place: tuple[int, int]) -> NamedFrame:
        variant, sample = place
        if sample == 3:
            self.fail()
        frame = replace(self.frames[sample], variant=variant)
        return NamedFrame(frame=frame, images=torch.full((2, 3), float(sample)), voxels=None)

    def fail(self) -> None:
        match self.fault:
            case "hangs":
                time.sleep(1000)
            case "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            case "raises":
                raise DatasetError("image dog cannot be read")
