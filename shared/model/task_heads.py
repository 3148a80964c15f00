"""A small network per branch and decoder layer; all layers run in one grouped convolution.

Without neighbours such a convolution is a product per layer, and on a GPU it is computed as one.
B samples, Q queries, D width, L decoder layers, H hidden channels, R branches.

Source: CMT, cmt_head.py `SeparateTaskHead`, `GroupLayerNorm1d`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared.model.outputs import OUTPUT_OF_BRANCH
from shared.process.autocast import joins_products, product_dtype

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
        self.is_pointwise = kernel == 1

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
        if self.is_pointwise and joins_products(decoded):
            return self.products(decoded)
        layers, samples, queries, _ = decoded.shape
        stacked = decoded.permute(1, 0, 3, 2).flatten(1, 2)  # (B, L * D, Q)
        return {
            OUTPUT_OF_BRANCH[official]: branch(stacked)
            .view(samples, layers, -1, queries)
            .permute(1, 0, 3, 2)
            for official, branch in self.named_children()
        }

    def products(self, decoded: Tensor) -> dict[str, Tensor]:
        """Return the same as `forward`, by a batched product per layer of a branch or of all."""
        layers, samples, queries, _ = decoded.shape
        names, branches = zip(*self.named_children(), strict=True)
        firsts, norms, _, lasts = zip(*branches, strict=True)
        dtype = product_dtype(decoded)
        first = _joined([conv.weight for conv in firsts], layers, dtype)  # (L, R * H, D)
        rows = decoded.to(dtype).flatten(1, 2)  # (L, B * Q, D)
        hidden = torch.bmm(rows, first.transpose(1, 2)).view(*rows.shape[:2], len(names), -1)
        hidden = _norm_relu(hidden, norms, layers).to(dtype)  # (L, B * Q, R, H)
        sizes = [conv.out_channels // layers for conv in lasts]
        weights, biases = (
            torch.split(_joined(parameters, layers, dtype), sizes, dim=1)
            for parameters in zip(*((conv.weight, conv.bias) for conv in lasts), strict=True)
        )  # R of (L, k, H) and of (L, k, 1)
        return {
            OUTPUT_OF_BRANCH[name]: torch.baddbmm(
                bias.transpose(1, 2), own, weight.transpose(1, 2)
            ).view(layers, samples, queries, -1)
            for name, own, weight, bias in zip(
                names, hidden.unbind(2), weights, biases, strict=True
            )
        }


def _joined(parameters: Sequence[Tensor], layers: int, dtype: torch.dtype) -> Tensor:
    """Return (L, channels of all branches, ...) of each branch's (L * channels, ...)."""
    return torch.cat([p.view(layers, p.shape[0] // layers, -1) for p in parameters], 1).to(dtype)


def _norm_relu(hidden: Tensor, norms: Sequence[GroupLayerNorm1d], layers: int) -> Tensor:
    """Norm (L, B * Q, R, H), in float32 or wider like `GroupLayerNorm1d`; then ReLU."""
    precise = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
    normed = functional.layer_norm(precise, precise.shape[-1:], eps=NORM_EPS)
    weight, bias = (
        torch.stack([parameter.view(layers, 1, -1) for parameter in parameters], dim=2)
        for parameters in zip(*((norm.weight, norm.bias) for norm in norms), strict=True)
    )  # (L, 1, R, H)
    return torch.addcmul(bias, weight, normed).relu_()


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
