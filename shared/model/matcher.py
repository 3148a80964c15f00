"""Which query stands for which box: the cheapest one-to-one assignment in every decoder layer.

L decoder layers, B samples, Q queries, K classes, n boxes of a sample, M pairs in the batch.

Source: CMT, hungarian_assigner_3d.py and match_cost.py; mmdet, match_cost.py `FocalLossCost`.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import count

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from shared.config.head_config import HeadConfig
from shared.data.ground_truth import GroundTruth
from shared.model.box_coder import encode_boxes
from shared.model.outputs import HeadOutputs
from shared.process.device import HostCopy, device_constant, send

COST_CODES = 8  # Upstream: the velocity, the last two of the ten codes, does not enter the cost
LOG_EPS = 1e-12
MOST_THREADS = 8  # an assignment takes about 0.1 ms, and SciPy releases Python's lock
REPLACEMENT_COST = 1e6  # of a cost that is not finite: far above any cost of a prediction in range


@dataclass(frozen=True, kw_only=True, slots=True)
class Matches:
    """Pairs of a query and a box; every layer has equally many.

    Args:
        sample: (M,) int64.
        query: (L, M) int64, query of that sample, ascending.
        box: (L, M) int64, row of all boxes of the batch, concatenated.
        is_exact: whether every cost was finite; otherwise the pairs mean nothing.
    """

    sample: Tensor
    query: Tensor
    box: Tensor
    is_exact: bool = True


@torch.no_grad()
def match(
    outputs: HeadOutputs, truth: GroundTruth, config: HeadConfig, *, skips_overflow: bool = False
) -> Matches:
    """Assign every box to the query that predicts it at the least cost, layer by layer.

    The costs go to the host in a single transfer, the one place where a training step waits for
    the GPU, and the pairs come back in a single one.

    Args:
        outputs: of the head; denoising queries are not matched.
        truth: on the device of the outputs.
        config: weights of the cost.
        skips_overflow: replace costs that are not finite, so that any pairs exist for the losses of
            a step that the gradient scaler will skip.

    Raises:
        FloatingPointError: if a cost is not finite, unless such steps are skipped.
    """
    costs = matching_cost(outputs.codes, outputs.class_logits, truth, config)
    on_host: NDArray[np.float32] = HostCopy(costs).wait().numpy()  # (L, M, Q)
    is_exact = True
    if skips_overflow and not np.isfinite(on_host).all():
        is_exact, bound = False, REPLACEMENT_COST
        on_host = np.nan_to_num(on_host, nan=bound, posinf=bound, neginf=bound)
    sample, columns, queries = _cheapest_pairs(on_host, truth.box_counts)
    box = truth.by_class[columns]
    sample, query, box = send([sample, queries, box], costs.device)
    return Matches(sample=sample, query=query, box=box, is_exact=is_exact)


def matching_cost(codes: Tensor, logits: Tensor, truth: GroundTruth, config: HeadConfig) -> Tensor:
    """Return the (L, M, Q) float32 cost of every query of a box's own sample.

    Args:
        codes: (L, B, Q, 10) predicted box codes.
        logits: (L, B, Q, K).
        truth: on the device of both; the M boxes are in the order of `truth.by_class`.
        config: weights.
    """
    weights = device_constant(config.code_weights[:COST_CODES], codes.device)
    predicted = codes[..., :COST_CODES].float() * weights
    # Samples with fewer boxes than the fullest are filled up, and the last line leaves that out.
    wanted = encode_boxes(truth.boxes_lidar[truth.rows].float())  # (B, n, 10)
    wanted = wanted[..., :COST_CODES] * weights  # (B, n, 8)
    distance = torch.cdist(wanted.expand(len(codes), -1, -1, -1), predicted, p=1.0)  # (L, B, n, Q)
    # sigmoid(-x) instead of 1 - sigmoid(x), which is 0 for a confident query.
    hit, miss = logits.float().sigmoid(), (-logits.float()).sigmoid()
    taken = -(hit + LOG_EPS).log() * config.focal_alpha * miss**config.focal_gamma
    left = -(miss + LOG_EPS).log() * (1 - config.focal_alpha) * hit**config.focal_gamma
    # gather refuses a negative label, where indexing would count from the end.
    classes = truth.labels[truth.rows].expand(len(codes), *[-1] * 2).unsqueeze(-1)
    classes = classes.expand(-1, -1, -1, logits.shape[2])  # (L, B, n, Q)
    classification = (taken - left).transpose(2, 3).gather(2, classes)  # (L, B, n, Q)
    cost = config.class_weight * classification + config.box_weight * distance
    return cost[:, truth.sample, truth.column]  # (L, M, Q)


def _cheapest_pairs(
    costs: NDArray[np.float32], box_counts: tuple[int, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return samples (pairs,), box columns and queries (L, pairs) of the best assignments.

    Args:
        costs: (L, M, Q).
        box_counts: of the samples that the M boxes belong to.
    """
    of_samples = np.split(costs, np.cumsum(box_counts)[:-1], axis=1)  # B of (L, n, Q)
    pairs = list(_assignment_threads().map(_assign_sample, of_samples, count()))
    starts = np.cumsum([0, *box_counts[:-1]])
    columns = [boxes + start for (boxes, _), start in zip(pairs, starts, strict=True)]
    queries = [of_sample for _, of_sample in pairs]
    samples = np.repeat(np.arange(len(pairs)), [pair.shape[-1] for pair in pairs])
    joined = samples, np.concatenate(columns, 1), np.concatenate(queries, 1)
    sample, column, query = (torch.from_numpy(array) for array in joined)
    return sample, column, query


def _assign_sample(costs: NDArray[np.float32], sample: int) -> NDArray[np.int64]:
    """Return (2, L, pairs) boxes and queries of a sample's cheapest assignments, by query."""
    pairs = [
        _assign(cost, f"decoder layer {layer}, sample {sample} of the batch")
        for layer, cost in enumerate(costs)
    ]
    return np.stack(pairs, axis=1)


def _assign(cost: NDArray[np.float32], where: str) -> NDArray[np.int64]:
    """Return (2, pairs) boxes and queries of an (n, Q) cost; `where` is for messages."""
    finite = np.isfinite(cost)
    if not finite.all():
        raise FloatingPointError(
            f"{where}: {(~finite).sum()} of {cost.size} matching costs are not finite; either "
            "training has diverged, or a ground-truth box has a size of zero or a NaN"
        )
    pairs: NDArray[np.int64] = np.stack(linear_sum_assignment(cost))
    return pairs[:, pairs[1].argsort()]


@cache
def _assignment_threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1), "matching")
