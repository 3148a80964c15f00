"""The backbones and what comes after them, all in train mode, BatchNorm too."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from benchmarks.experiments.pretrain_tiny.dense_heads import DenseHeads
from benchmarks.experiments.strategies.live_detector import LiveDetector
from shared.config.preset import Preset
from shared.data.batch import Batch
from shared.model.denoising import DenoisingQueries
from shared.model.detector import CmtDetector, build_detector
from shared.model.outputs import HeadOutputs
from shared.process.device import available_device
from stage1_extract.backbones.frozen import FrozenBackbones
from stage1_extract.backbones.seeded_weights import seed_weights


class TrainedBackbones(FrozenBackbones):
    """The backbones in the precision of the run: no float16, whose gradients would underflow."""

    def _half(self) -> torch.autocast:
        return torch.autocast("cuda", enabled=False)


class WholeDetector(LiveDetector):
    """A live detector that trains everything, its image backbone's BatchNorm too.

    In train mode, the loss of the dense heads is added to whatever is computed from the outputs.

    Args:
        backbones: with their weights.
        detector: necks and head of the same preset.
        shields_backbones: let the backbones learn from the dense heads only. Gradients through
            queries that attend to noise are larger, and lead nowhere.
    """

    def __init__(
        self, backbones: FrozenBackbones, detector: CmtDetector, *, shields_backbones: bool = False
    ) -> None:
        super().__init__(backbones, detector)
        self.shields_backbones = shields_backbones
        self.dense_heads = DenseHeads(detector.preset)

    def train(self, mode: bool = True) -> "WholeDetector":
        """Set the mode of every module."""
        CmtDetector.train(self, mode)
        for module in self.modules():  # mmdet's ResNet puts its BatchNorm back into eval mode
            module.training = mode
        return self

    def forward(self, batch: Batch, denoising: DenoisingQueries | None = None) -> HeadOutputs:
        """Predict boxes from raw input; see `CmtDetector.forward`."""
        maps = self.features(batch)
        read = {name: m.detach() for name, m in maps.items()} if self.shields_backbones else maps
        outputs = CmtDetector.forward(self, replace(batch, maps=read), denoising)
        if not self.training:
            return outputs
        cameras = self.pts_bbox_head.geometry(batch.img_from_lidar)
        assert cameras is not None
        loss = self.dense_heads(maps, batch, cameras)
        logits: Tensor = AddLoss.apply(outputs.class_logits, loss)
        return replace(outputs, class_logits=logits)


class AddLoss(torch.autograd.Function):
    """Pass a tensor through, and add a loss to whatever is computed from it."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, loss: Tensor) -> Tensor:
        """Return the values."""
        ctx.like = loss
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients: the values' own, and 1 of the loss."""
        return gradient, torch.ones_like(ctx.like)


def whole_detector(preset: Preset, seed: int, *, shields_backbones: bool = False) -> WholeDetector:
    """Build a detector with the seeded backbones of a run without a checkpoint.

    Args:
        preset: the detector.
        seed: of the weights; it sets torch's global generator.
        shields_backbones: see `WholeDetector`.
    """
    torch.manual_seed(seed)
    backbones = TrainedBackbones(preset)
    seed_weights(backbones, seed)
    backbones.to_device(available_device())
    return WholeDetector(backbones, build_detector(preset), shields_backbones=shields_backbones)


@torch.no_grad()
def keep_in_train_mode(detector: WholeDetector, batch: Batch) -> None:
    """Let the backbones' BatchNorm compute in train mode what it now computes in eval mode.

    Seeded weights split points at heights and intensities, with statistics of 0 and 1; with those
    of a batch they would split elsewhere, and tell less. Exact for the given batch.
    """

    def adapt(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, _BatchNorm)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        (values,) = inputs
        others = [axis for axis in range(values.dim()) if axis != 1]
        variance, mean = torch.var_mean(values, others, correction=0)
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        norm.bias += (mean - norm.running_mean) * scale
        norm.weight.copy_(scale * (variance + norm.eps).sqrt())
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)

    hooks: list[Any] = []
    for part in (detector.img_backbone, detector.pts_middle_encoder, detector.pts_backbone):
        assert part is not None
        hooks += [
            module.register_forward_pre_hook(adapt)
            for module in part.modules()
            if isinstance(module, _BatchNorm)
        ]
    detector.eval()
    detector.features(batch)
    for hook in hooks:
        hook.remove()
