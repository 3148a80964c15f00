"""First weights with which queries already look at where they are: learnt from geometry alone.

What takes longest when CMT is trained from scratch is that the position embeddings, MLPs of very
long waves, become so sharp that a query finds the tokens at its place. That needs neither images
nor points, so that it costs milliseconds a step instead of seconds.

B samples, V views, Q queries, N tokens (BEV cells, then camera pixels), D width.
"""

import math
from collections.abc import Iterable
from itertools import islice

import torch
from torch import Tensor
from torch.nn import functional

from shared.data.batch import Batch
from shared.model.attention.projected_attention import ProjectedAttention
from shared.model.detector import CmtDetector
from shared.model.geometry.positions import CameraGeometry, fractions_to_metres, project
from shared.model.head import CmtHead

QUERIES = 64  # random places per sample and step
LEARNING_RATE = 3e-3
BEV_SIGMA_CELLS = 1.0  # how far around its place a query is to look
PIXEL_SIGMA_CELLS = 0.7
HEIGHTS = (0.4, 0.65)  # fractions of the range: -1.8 to 0.2 m, where the centres of objects are
CAMERA_GAIN = 0.2  # else camera contents are six times as long as those of BEV cells
# Aimed positions are ten times as long as random ones, which would make every query look at a
# random one and no other.
SELF_ATTENTION_GAIN = 0.2
TRAINED = ("bev_embedding.", "rv_embedding.", "attentions.1.attn.in_proj_weight")


def aim_attention(detector: CmtDetector, batches: Iterable[Batch], steps: int) -> list[float]:
    """Train position embeddings and cross attentions to attend where a query stands.

    Half of a query's attention is to go to the BEV cells around it, half to the pixels around its
    projections; all of it to the cells where no camera sees it.

    Args:
        detector: of both sensors, with fresh weights; changed in place.
        batches: whose cameras are used; their maps are not.
        steps: of AdamW, with a rate that falls to 0.

    Returns:
        The loss of every step: cross entropy in nats, averaged over heads and layers.
    """
    head = detector.pts_bbox_head
    generator = torch.Generator().manual_seed(0)
    _prepare(detector, generator)
    trained = [
        parameter
        for name, parameter in head.named_parameters()
        if any(part in name for part in TRAINED)
    ]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    losses = []
    for batch in islice(batches, steps):
        places = torch.rand(len(batch.tokens), QUERIES, 3, generator=generator)
        places[..., 2] = _heights(places[..., 2])
        loss = _attention_loss(
            detector, batch.img_from_lidar, places.to(detector.device), generator
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
    return losses


@torch.no_grad()
def _prepare(detector: CmtDetector, generator: torch.Generator) -> None:
    """Put queries at the height of objects, even out the sensors, soften self attention.

    And let the first self attention return something: queries start empty, and the norm after it
    would divide by almost nothing, for gradients ten thousand times as large as elsewhere.
    """
    references = detector.pts_bbox_head.reference_points.weight
    references[:, 2] = _heights(references[:, 2])
    assert detector.img_neck is not None
    for layer in detector.img_neck.fpn_convs:
        layer.conv.weight *= CAMERA_GAIN
    layers = detector.pts_bbox_head.transformer["decoder"].layers
    first_bias = layers[0].attentions[0].attn.out_proj.bias
    first_bias.copy_(_noise_like(first_bias, generator))
    for layer in layers:
        queries_and_keys = 2 * detector.pts_bbox_head.width
        layer.attentions[0].attn.in_proj_weight[:queries_and_keys] *= SELF_ATTENTION_GAIN


def _heights(uniform: Tensor) -> Tensor:
    low, high = HEIGHTS
    return low + (high - low) * uniform


def _attention_loss(
    detector: CmtDetector, img_from_lidar: Tensor, places: Tensor, generator: torch.Generator
) -> Tensor:
    """Return how far attention is from where (B, Q, 3) places are, as fractions of the range."""
    head = detector.pts_bbox_head
    cameras = head.geometry(img_from_lidar.to(detector.device))
    assert cameras is not None
    rows, columns = detector.preset.camera_maps[0].shape[-2:]
    cells = detector.preset.grid.bev_cells
    target = _target(head, cameras, places, cells, (rows, columns))  # (B, Q, N)
    queries = head.query_positions(places, cameras)  # (B, Q, D)
    pixels = head.image_positions(cameras, rows, columns).flatten(1, 3)
    bev = head.bev_positions(cells, cells).expand(len(pixels), -1, -1)
    contents = [_contents(bev, generator).relu(), _contents(pixels, generator)]
    keys = torch.cat([bev, pixels], dim=1) + torch.cat(contents, dim=1)  # (B, N, D)
    losses = []
    for layer in head.transformer["decoder"].layers:
        placed = queries + _noise_like(queries, generator)  # contents come out of a norm
        weights = log_attention(layer.attentions[1].attn, placed, keys)
        losses.append(-(target.unsqueeze(1) * weights).sum(dim=-1))
    return torch.stack(losses).mean()


def _contents(tokens: Tensor, generator: torch.Generator) -> Tensor:
    """Return what may be added to the positions of (B, N, D) tokens: partly the same for all.

    Attention aimed at bare positions would be thrown off by the first contents.
    """
    return _noise_like(tokens, generator) + _noise_like(tokens[:, :1], generator)


def _noise_like(tokens: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(tokens.shape, generator=generator).to(tokens.device)


def log_attention(attention: ProjectedAttention, queries: Tensor, keys: Tensor) -> Tensor:
    """Return the logs of the attention weights, (B, heads, Q, N), of (B, Q or N, D) tokens."""
    weight_q, weight_k, _ = attention.in_proj_weight.chunk(3)
    bias_q, bias_k, _ = attention.in_proj_bias.chunk(3)
    query, key = (
        functional.linear(tokens, weight, bias)
        .unflatten(-1, (attention.heads, -1))
        .transpose(1, 2)  # (B, heads, Q or N, D / heads)
        for tokens, weight, bias in ((queries, weight_q, bias_q), (keys, weight_k, bias_k))
    )
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    return scores.log_softmax(dim=-1)


@torch.no_grad()
def _target(
    head: CmtHead,
    cameras: CameraGeometry,
    places: Tensor,
    cells: int,
    map_shape: tuple[int, int],
) -> Tensor:
    """Return the attention to learn, (B, Q, N); every query's sums to 1."""
    rows, columns = map_shape
    step = torch.arange(cells, device=places.device) + 0.5
    across = _bump(places[..., :1] * cells - step, BEV_SIGMA_CELLS)  # (B, Q, X)
    along = _bump(places[..., 1:2] * cells - step, BEV_SIGMA_CELLS)  # (B, Q, Y)
    bev = (along.unsqueeze(-1) * across.unsqueeze(-2)).flatten(2)  # (B, Q, Y * X)
    pixels, visible = project(fractions_to_metres(places, head.point_range_m), cameras)
    u = pixels[..., :1] * columns / cameras.width_px  # (B, V, Q, 1) feature columns
    v = pixels[..., 1:2] * rows / cameras.height_px
    # Its middle, not its corner, which is where `pixel_rays_m` places it.
    across = _bump(u - torch.arange(columns, device=u.device) - 0.5, PIXEL_SIGMA_CELLS)
    along = _bump(v - torch.arange(rows, device=v.device) - 0.5, PIXEL_SIGMA_CELLS)
    near = along.unsqueeze(-1) * across.unsqueeze(-2)  # (B, V, Q, H, W)
    camera = (near * visible[..., None, None]).movedim(1, 2).flatten(2)  # (B, Q, V * H * W)
    parts = [part / part.sum(dim=-1, keepdim=True).clamp(min=1e-6) for part in (bev, camera)]
    target = torch.cat(parts, dim=-1)
    return target / target.sum(dim=-1, keepdim=True)


def _bump(distance: Tensor, sigma: float) -> Tensor:
    return (-0.5 * (distance / sigma) ** 2).exp()
