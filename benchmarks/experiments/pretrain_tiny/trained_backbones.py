"""The backbones and what comes after them, all in train mode, BatchNorm too."""

import torch

from benchmarks.experiments.strategies.live_detector import LiveDetector
from shared.config.preset import Preset
from shared.model.detector import CmtDetector, build_detector
from shared.process.device import available_device
from stage1_extract.backbones.frozen import FrozenBackbones


class TrainedBackbones(FrozenBackbones):
    """The backbones in the precision of the run: no float16, whose gradients would underflow."""

    def _half(self) -> torch.autocast:
        return torch.autocast("cuda", enabled=False)


class WholeDetector(LiveDetector):
    """A live detector that trains its image backbone's BatchNorm, which starts from nothing."""

    def train(self, mode: bool = True) -> "WholeDetector":
        """Set the mode of every module."""
        CmtDetector.train(self, mode)
        for module in self.modules():  # mmdet's ResNet puts its BatchNorm back into eval mode
            module.training = mode
        return self


def whole_detector(preset: Preset, seed: int) -> WholeDetector:
    """Build a detector with fresh weights on the available device.

    Args:
        preset: the detector.
        seed: of the weights; it sets torch's global generator.
    """
    torch.manual_seed(seed)
    backbones = TrainedBackbones(preset)
    backbones.to_device(available_device())
    return WholeDetector(backbones, build_detector(preset))
