"""A small network per branch and decoder layer; all layers run in one grouped convolution.

B samples, Q queries, D width, L decoder layers.

Source: CMT, cmt_head.py `SeparateTaskHead`, `GroupLayerNorm1d`.
"""

import torch
from torch import Tensor, nn

from shared.model.outputs import OUTPUT_OF_BRANCH

NORM_EPS = 1e-6
RARE_CLASS_BIAS = -2.19  # sigmoid of it is 0.1: most queries are background


class GroupLayerNorm1d(nn.Module):
    """Layer normalisation of each group of channels, at each query.

    Args:
        channels: of all groups.
        groups: L.
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, hidden: Tensor) -> Tensor:
        """Normalise (B, channels, Q), in float32 or wider even under autocast."""
        precise = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
        samples, _, queries = precise.shape
        grouped = precise.view(samples, self.groups, -1, queries)  # (B, L, channels / L, Q)
        centred = grouped - grouped.mean(dim=2, keepdim=True)
        variance = centred.square().mean(dim=2, keepdim=True)
        normed = (centred * (variance + NORM_EPS).rsqrt()).flatten(1, 2)
        return self.weight.unsqueeze(-1) * normed + self.bias.unsqueeze(-1)


class TaskHeads(nn.Module):
    """The six branches: five for the box code and one for the class logits.

    Args:
        layers: L; every decoder layer has weights of its own.
        width: D.
        hidden: channels between the two layers of a branch.
        classes: K.
        kernel: neighbouring queries that both layers of a branch see, odd. Upstream: the LiDAR-only
            config says 3, so a box depends on the two queries before and the two after it in the
            list, which need not be near in space; and in training the first two ordinary queries
            see the last two denoising slots, which the attention mask keeps apart.
    """

    def __init__(
        self, *, layers: int, width: int, hidden: int, classes: int, kernel: int = 1
    ) -> None:
        super().__init__()

        def branch(out: int, bias: float = 0.0) -> nn.Sequential:
            return _branch(layers, width, hidden, out, kernel, bias)

        # The official names; `OUTPUT_OF_BRANCH` says what each of them predicts.
        self.center = branch(2)
        self.height = branch(1)
        self.dim = branch(3)
        self.rot = branch(2)
        self.vel = branch(2)
        self.cls_logits = branch(classes, RARE_CLASS_BIAS)

    def forward(self, decoded: Tensor) -> dict[str, Tensor]:
        """Return (L, B, Q, k) by our name of the branch, unscaled, from (L, B, Q, D)."""
        layers, samples, queries, _ = decoded.shape
        stacked = decoded.permute(1, 0, 3, 2).flatten(1, 2)  # (B, L * D, Q)
        return {
            OUTPUT_OF_BRANCH[official]: branch(stacked)
            .view(samples, layers, -1, queries)
            .permute(1, 0, 3, 2)
            for official, branch in self.named_children()
        }


def _branch(
    layers: int, width: int, hidden: int, out: int, kernel: int, bias: float
) -> nn.Sequential:
    """Return the branch; `bias` is the initial bias of its last layer.

    Upstream: this initialisation is written but never runs, because mmcv does not look for
    `init_weights` inside an `nn.ModuleList`. It is what the authors intended, so it is used here.
    """
    first = nn.Conv1d(
        layers * width,
        layers * hidden,
        kernel,
        padding=kernel // 2,
        groups=layers,
        bias=False,
    )
    last = nn.Conv1d(layers * hidden, layers * out, kernel, padding=kernel // 2, groups=layers)
    for conv in (first, last):
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    assert last.bias is not None
    nn.init.constant_(last.bias, bias)
    norm = GroupLayerNorm1d(layers * hidden, groups=layers)
    return nn.Sequential(first, norm, nn.ReLU(inplace=True), last)
