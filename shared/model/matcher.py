"""Which query stands for which box: the cheapest one-to-one assignment in every decoder layer.

L decoder layers, B samples, Q queries, K classes, n boxes of a sample, M pairs in the batch.

Source: CMT, hungarian_assigner_3d.py and match_cost.py; mmdet, match_cost.py `FocalLossCost`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from shared.config.head_config import HeadConfig
from shared.model.box_coder import encode_boxes
from shared.model.outputs import HeadOutputs

COST_CODES = 8  # Upstream: the velocity, the last two of the ten codes, does not enter the cost
LOG_EPS = 1e-12


@dataclass(frozen=True, kw_only=True, slots=True)
class Matches:
    """Pairs of a query and a box; every layer has equally many.

    Args:
        sample: (M,) int64.
        query: (L, M) int64, query of that sample, ascending.
        box: (L, M) int64, row of all boxes of the batch, concatenated.
    """

    sample: Tensor
    query: Tensor
    box: Tensor


@torch.no_grad()
def match(
    outputs: HeadOutputs, boxes: Sequence[Tensor], labels: Sequence[Tensor], config: HeadConfig
) -> Matches:
    """Assign every box to the query that predicts it at the least cost, layer by layer.

    Args:
        outputs: of the head; denoising queries are not matched.
        boxes: B tensors (n, 9) float32, LiDAR frame, z is the centre.
        labels: B tensors (n,) int64, 0 to K - 1.
        config: weights of the cost.

    Raises:
        FloatingPointError: if a cost is not finite.
    """
    device = outputs.class_logits.device
    # Upstream: boxes are ordered by class before matching, which decides between equal costs.
    orders = [own.argsort(stable=True) for own in labels]
    costs = [
        matching_cost(
            outputs.codes[:, sample],
            outputs.class_logits[:, sample],
            boxes[sample][order],
            labels[sample][order],
            config,
        )
        for sample, order in enumerate(orders)
    ]  # B of (L, Q, n)
    pairs = _cheapest_pairs(costs)  # B of (L, 2, min(Q, n))
    starts = np.cumsum([0, *(len(own) for own in boxes[:-1])])
    rows = torch.cat([order + int(start) for order, start in zip(orders, starts, strict=True)])
    columns = [pair[:, 1] + start for pair, start in zip(pairs, starts, strict=True)]
    sample = np.repeat(np.arange(len(pairs)), [pair.shape[-1] for pair in pairs])
    return Matches(
        sample=torch.from_numpy(sample).to(device),
        query=torch.from_numpy(np.concatenate([pair[:, 0] for pair in pairs], 1)).to(device),
        box=rows[torch.from_numpy(np.concatenate(columns, 1)).to(device)],
    )


def matching_cost(
    codes: Tensor, logits: Tensor, boxes: Tensor, labels: Tensor, config: HeadConfig
) -> Tensor:
    """Return the (L, Q, n) float32 cost of every pair in a sample.

    Args:
        codes: (L, Q, 10) predicted box codes.
        logits: (L, Q, K).
        boxes: (n, 9) LiDAR frame.
        labels: (n,) int64.
        config: weights.
    """
    weights = codes.new_tensor(config.code_weights[:COST_CODES], dtype=torch.float32)
    predicted = codes[..., :COST_CODES].float() * weights
    wanted = encode_boxes(boxes.float())[..., :COST_CODES] * weights  # (n, 8)
    distance = torch.cdist(predicted, wanted.expand(len(predicted), -1, -1), p=1.0)  # (L, Q, n)
    # sigmoid(-x) instead of 1 - sigmoid(x), which is 0 for a confident query.
    hit, miss = logits.float().sigmoid(), (-logits.float()).sigmoid()
    taken = -(hit + LOG_EPS).log() * config.focal_alpha * miss**config.focal_gamma
    left = -(miss + LOG_EPS).log() * (1 - config.focal_alpha) * hit**config.focal_gamma
    # index_select refuses a negative label, where indexing would count from the end.
    classification = (taken - left).index_select(-1, labels)  # (L, Q, n)
    return config.class_weight * classification + config.box_weight * distance


def _cheapest_pairs(costs: Sequence[Tensor]) -> list[NDArray[np.int64]]:
    """Return queries and columns of the best assignments, (L, 2, pairs) for each (L, Q, n)."""
    # One transfer for the whole batch: each transfer makes the host wait for the GPU.
    on_host = torch.cat([cost.flatten() for cost in costs]).cpu().numpy()
    flat = np.split(on_host, np.cumsum([cost.numel() for cost in costs])[:-1])
    return [
        np.stack(
            [
                _assign(layer_cost, f"decoder layer {layer}, sample {sample} of the batch")
                for layer, layer_cost in enumerate(values.reshape(cost.shape))
            ]
        )
        for sample, (values, cost) in enumerate(zip(flat, costs, strict=True))
    ]


def _assign(cost: NDArray[np.float32], where: str) -> NDArray[np.int64]:
    """Return (2, pairs) rows and columns of the cheapest assignment; `where` is for messages."""
    finite = np.isfinite(cost)
    if not finite.all():
        raise FloatingPointError(
            f"{where}: {(~finite).sum()} of {cost.size} matching costs are not finite; either "
            "training has diverged, or a ground-truth box has a size of zero or a NaN"
        )
    return np.stack(linear_sum_assignment(cost))
