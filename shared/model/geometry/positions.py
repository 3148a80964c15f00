"""The geometry behind CMT's position embeddings, without any weights.

Positions are fractions of the point range, 0 at the minimum and 1 at the maximum of each axis.
B samples, V views, Q queries, H W feature rows and columns, Y X BEV rows and columns.

Source: CMT, cmt_head.py (`pos2embed`, `coords_bev`, `_rv_pe`, `_rv_query_embed`).
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

FRACTION_EPS = 1e-5  # keeps a fraction of exactly 0 or 1 away from an infinite logit
DEPTH_EPS_M = 1e-6  # keeps the depth of a point in the camera's own plane from being 0
NEAREST_DEPTH_M = 1.0  # of the first point of every camera ray


@dataclass(frozen=True, kw_only=True, slots=True)
class CameraGeometry:
    """The projections of a batch's cameras and their inverses.

    Args:
        img_from_lidar, lidar_from_img: (B, V, 4, 4) float, pixels of the network's input.
        height_px, width_px: size of the network's input.
    """

    img_from_lidar: Tensor
    lidar_from_img: Tensor
    height_px: int
    width_px: int


def invert_cameras(
    img_from_lidar: Tensor, *, height_px: int, width_px: int, dtype: torch.dtype
) -> CameraGeometry:
    """Invert `img_from_lidar` (B, V, 4, 4), then cast both directions to `dtype`.

    Upstream inverts in float64, too; in float32 the far end of a ray would move by millimetres.
    """
    # inv_ex: inv makes the host wait for the GPU, to report singular matrices.
    lidar_from_img = torch.linalg.inv_ex(img_from_lidar).inverse
    return CameraGeometry(
        img_from_lidar=img_from_lidar.to(dtype),
        lidar_from_img=lidar_from_img.to(dtype),
        height_px=height_px,
        width_px=width_px,
    )


def inverse_sigmoid(fractions: Tensor) -> Tensor:
    """Return the logits of `fractions`, finite even at and beyond 0 and 1."""
    inside = fractions.clamp(min=0.0, max=1.0)
    return torch.log(inside.clamp(min=FRACTION_EPS) / (1.0 - inside).clamp(min=FRACTION_EPS))


def fractions_to_metres(fractions: Tensor, point_range_m: Tensor) -> Tensor:
    """Return (..., 3) metres in the LiDAR frame; `point_range_m` is (2, 3), minimum and maximum."""
    low_m, high_m = point_range_m.unbind()
    return fractions * (high_m - low_m) + low_m


def metres_to_fractions(points_m: Tensor, point_range_m: Tensor) -> Tensor:
    """Return (..., 3) fractions of the range; points outside give less than 0 or more than 1."""
    low_m, high_m = point_range_m.unbind()
    return (points_m - low_m) / (high_m - low_m)


def sine_embedding(fractions: Tensor, width: int) -> Tensor:
    """Spread x and y over sines and cosines.

    Args:
        fractions: (..., 2 or more); only x and y are used.
        width: D, even.

    Returns:
        (..., 2 * D), first y, then x; sine in even, cosine in odd columns.
    """
    # Upstream: divisors grow linearly from 1 to 3; DETR's are powers of 10,000.
    pair = torch.arange(width, device=fractions.device, dtype=fractions.dtype) // 2
    divisors = 2 * pair / width + 1  # (D,)
    y_then_x = fractions[..., :2].flip(-1).unsqueeze(-1) * (2 * math.pi) / divisors  # (..., 2, D)
    waves = torch.stack([y_then_x[..., 0::2].sin(), y_then_x[..., 1::2].cos()], dim=-1)
    return waves.flatten(-3)  # (..., 2 * D)


def bev_fractions(rows: int, columns: int, *, like: Tensor) -> Tensor:
    """Return the centres of the BEV cells, (rows * columns, 2) as (x, y), row by row.

    Upstream: the cells are spread over the whole point range, although with 1,024 voxels of 0.1 m
    they cover only -54..48.4 m of it (up to 5.6 m off). Pretrained weights have learnt this.
    """
    y = (torch.arange(rows, device=like.device, dtype=like.dtype) + 0.5) / rows
    x = (torch.arange(columns, device=like.device, dtype=like.dtype) + 0.5) / columns
    y, x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([x, y], dim=-1).flatten(0, 1)  # (Y * X, 2)


@lru_cache(maxsize=4)
def bev_waves(
    rows: int, columns: int, width: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Return the sine embedding of the BEV cells, (rows * columns, 2 * width).

    It is the same in every step, so it is kept; do not change it.
    """
    with torch.inference_mode(False):  # else autograd would refuse it in a later step
        like = torch.empty(0, dtype=dtype, device=device)
        return sine_embedding(bev_fractions(rows, columns, like=like), width)


def ray_depths_m(depths: int, farthest_m: Tensor) -> Tensor:
    """Return (depths,) evenly spaced depths from 1 m up to, not including, `farthest_m`."""
    step = torch.arange(depths, device=farthest_m.device, dtype=farthest_m.dtype)
    return NEAREST_DEPTH_M + step * (farthest_m - NEAREST_DEPTH_M) / depths


def pixel_rays_m(cameras: CameraGeometry, rows: int, columns: int, depths_m: Tensor) -> Tensor:
    """Sample the ray behind every feature pixel.

    Returns:
        (B, V, H, W, depths, 3) metres, LiDAR frame.
    """
    # Upstream: a feature pixel is represented by its upper left corner, not its centre.
    steps = torch.arange(max(rows, columns), device=depths_m.device, dtype=depths_m.dtype)
    v_px = steps[:rows] * cameras.height_px / rows
    u_px = steps[:columns] * cameras.width_px / columns
    v_px, u_px, depth_m = torch.meshgrid(v_px, u_px, depths_m, indexing="ij")
    rays = torch.stack([u_px * depth_m, v_px * depth_m, depth_m, torch.ones_like(depth_m)], dim=-1)
    with torch.autocast(rays.device.type, enabled=False):
        points = torch.einsum("hwdo,bvco->bvhwdc", rays, cameras.lidar_from_img)
    return points[..., :3]


def project(points_m: Tensor, cameras: CameraGeometry) -> tuple[Tensor, Tensor]:
    """Project points into every camera.

    Args:
        points_m: (B, Q, 3) float, metres, LiDAR frame.
        cameras: of the batch.

    Returns:
        pixels: (B, V, Q, 3) as (u, v, 1) in pixels of the network's input; meaningless where
            `visible` is False.
        visible: (B, V, Q) bool, the point is in front of the camera and inside its image.
    """
    homogeneous = torch.cat([points_m, torch.ones_like(points_m[..., :1])], dim=-1)
    with torch.autocast(points_m.device.type, enabled=False):
        projected = torch.einsum("bqc,bvdc->bvqd", homogeneous, cameras.img_from_lidar)[..., :3]
    depth_m = projected[..., 2:].detach()  # (B, V, Q, 1)
    in_front = depth_m > 0
    # Upstream: the divisor carries no gradient, and the depth is divided by itself.
    pixels = projected / (depth_m + torch.where(in_front, DEPTH_EPS_M, -DEPTH_EPS_M))
    u_px, v_px = pixels[..., 0], pixels[..., 1]
    inside = (u_px >= 0) & (u_px < cameras.width_px) & (v_px >= 0) & (v_px < cameras.height_px)
    return pixels, inside & in_front.squeeze(-1)


def query_rays_m(
    points_m: Tensor, cameras: CameraGeometry, depths_m: Tensor
) -> tuple[Tensor, Tensor]:
    """Sample the rays from every camera through every query.

    Args:
        points_m: (B, Q, 3) float, metres, LiDAR frame.
        cameras: of the batch.
        depths_m: (depths,) float.

    Returns:
        rays: (B, V, Q, depths, 3) metres, LiDAR frame; 0 where `visible` is False.
        visible: (B, V, Q) bool, as from `project`.
    """
    pixels, visible = project(points_m, cameras)
    with torch.autocast(points_m.device.type, enabled=False):
        rays = pixels.unsqueeze(-2) * depths_m.unsqueeze(-1)  # (B, V, Q, depths, 3)
        rays = torch.cat([rays, torch.ones_like(rays[..., :1])], dim=-1)  # (B, V, Q, depths, 4)
        rays_m = torch.einsum("bvqdo,bvco->bvqdc", rays, cameras.lidar_from_img)[..., :3]
    # Next to a camera's plane pixels are unbounded, which float16 cannot hold: 0 * inf is NaN.
    return rays_m.masked_fill(~visible[..., None, None], 0.0), visible
