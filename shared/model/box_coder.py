"""Boxes to the codes the head regresses, and back.

A box is (x, y, z of its centre, length, width, height, yaw, vx, vy): metres, radians, metres per
second, LiDAR frame; its code is (x, y, log length, log width, z, log height, sin yaw, cos yaw, vx,
vy). Everywhere in this project z is the centre of the box (its centre of gravity), not its bottom.

B samples, Q queries, K classes, n boxes.

Source: CMT, core/bbox/util.py and multi_task_bbox_coder.py.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from shared.config.head_config import HeadConfig
from shared.model.outputs import HeadOutputs

CODE_SIZE = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Detections:
    """The boxes detected in a sample, best first.

    Args:
        boxes_lidar: (n, 9) float32, see the module; z is the centre of the box.
        scores: (n,) float32, 0 to 1.
        labels: (n,) int64, index into `CLASS_NAMES`.
        queries: (n,) int64, the query each box comes from.
    """

    boxes_lidar: Tensor
    scores: Tensor
    labels: Tensor
    queries: Tensor


def encode_boxes(boxes_lidar: Tensor) -> Tensor:
    """Return (..., 10) codes of (..., 9) boxes; a NaN velocity stays NaN."""
    x, y, z, length, width, height, yaw, vx, vy = boxes_lidar.unbind(-1)
    sizes = length.log(), width.log(), z, height.log()
    return torch.stack([x, y, *sizes, yaw.sin(), yaw.cos(), vx, vy], dim=-1)


def decode_codes(codes: Tensor) -> Tensor:
    """Return (..., 9) boxes of (..., 10) codes; yaw is in (-pi, pi]."""
    x, y, log_length, log_width, z, log_height, sine, cosine, vx, vy = codes.unbind(-1)
    sizes = log_length.exp(), log_width.exp(), log_height.exp()
    return torch.stack([x, y, z, *sizes, torch.atan2(sine, cosine), vx, vy], dim=-1)


@torch.no_grad()
def decode_boxes(outputs: HeadOutputs, config: HeadConfig) -> list[Detections]:
    """Turn the last decoder layer's predictions into boxes.

    The `max_boxes` best (query, class) pairs are kept, so one query can give several boxes; no
    overlap suppression, no threshold. After that, boxes with a centre outside `kept_range_m` are
    dropped, so fewer than `max_boxes` may remain.
    """
    scores = outputs.class_logits[-1].float().sigmoid()  # (B, Q, K)
    classes = scores.shape[-1]
    flat = scores.flatten(1)  # (B, Q * K)
    best, pairs = flat.topk(min(config.max_boxes, flat.shape[1]))  # (B, max_boxes)
    queries = pairs // classes
    codes = outputs.codes[-1].float()  # (B, Q, 10)
    chosen = codes.gather(1, queries.unsqueeze(-1).expand(-1, -1, CODE_SIZE))  # (B, max_boxes, 10)
    boxes = decode_codes(chosen)  # (B, max_boxes, 9)
    low, high = boxes.new_tensor(config.kept_range_m).view(2, 3)
    inside = ((boxes[..., :3] >= low) & (boxes[..., :3] <= high)).all(dim=-1)  # (B, max_boxes)
    return [
        Detections(
            boxes_lidar=boxes[sample, inside[sample]],
            scores=best[sample, inside[sample]],
            labels=pairs[sample, inside[sample]] % classes,
            queries=queries[sample, inside[sample]],
        )
        for sample in range(len(boxes))
    ]
