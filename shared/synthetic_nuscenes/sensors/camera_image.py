"""A camera image: a ray per pixel paints the nearest surface, and hidden pixels are counted."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from shared.synthetic_nuscenes.sensors.paint import background, body_colours
from shared.synthetic_nuscenes.sensors.ray_casting import cast_at_solid, rotate
from shared.synthetic_nuscenes.sensors.rig import RigCamera
from shared.synthetic_nuscenes.world.rotation import Pose, matrix
from shared.synthetic_nuscenes.world.scene_layout import SceneLayout
from shared.synthetic_nuscenes.world.solids import Body, Solid
from shared.synthetic_nuscenes.world.synthetic_config import IMAGE_HEIGHT_PX, IMAGE_WIDTH_PX

NEAR_M = 0.1  # corners nearer than this are not projected; rays are cast at all pixels instead
GRAIN = 3.0  # standard deviation of the pixel noise


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """What a camera sees, at 1/stride of 1600 x 900.

    Args:
        image: (H, W, 3) uint8 RGB.
        whole_px: (objects,) pixels that each object would cover if nothing stood in front of it.
        visible_px: (objects,) pixels that it does cover.
    """

    image: NDArray[np.uint8]
    whole_px: NDArray[np.int64]
    visible_px: NDArray[np.int64]


@cache
def pixel_rays(camera: RigCamera, stride_px: int) -> NDArray[np.float32]:
    """Return (3, H, W) directions of depth 1 through the pixel centres, in the camera frame."""
    cx, cy = camera.center_px
    # The centre of coarse pixel i is full-size pixel stride * i + (stride - 1) / 2.
    u_px = np.arange(IMAGE_WIDTH_PX // stride_px) * stride_px + (stride_px - 1) / 2
    v_px = np.arange(IMAGE_HEIGHT_PX // stride_px) * stride_px + (stride_px - 1) / 2
    right, down = np.meshgrid((u_px - cx) / camera.focal_px, (v_px - cy) / camera.focal_px)
    rays: NDArray[np.float32] = np.stack([right, down, np.ones_like(right)]).astype(np.float32)
    return rays


@dataclass(frozen=True, kw_only=True, slots=True)
class _Canvas:
    """The arrays that the bodies of an image are painted into.

    Args:
        directions: (3, H, W) float32 global ray directions, of depth 1.
        colours: (H, W, 3) float32.
        depth_m: (H, W) float32, of the nearest surface so far.
        owner: (H, W) int16, index of the body that this surface belongs to; -1 for none.
    """

    directions: NDArray[np.float32]
    colours: NDArray[np.float32]
    depth_m: NDArray[np.float32]
    owner: NDArray[np.int16]


def photograph(
    layout: SceneLayout,
    camera: RigCamera,
    time_s: float,
    stride_px: int,
    random: np.random.Generator,
) -> Picture:
    """Render a camera image.

    Args:
        layout: scene.
        camera: which.
        time_s: of the exposure, since the first keyframe.
        stride_px: full-size pixels per rendered pixel, along each side.
        random: stream for the pixel noise.
    """
    pose = layout.ego.pose(time_s).after(camera.ego_pose)
    origin_m = np.array(pose.translation_m)
    canvas = _empty_canvas(pose, camera, stride_px)
    bodies = (*layout.objects, *layout.clutter)
    solids = [body.solid(time_s) for body in bodies]
    whole_px = np.zeros(len(bodies), dtype=np.int64)
    gaps_m = [float(np.linalg.norm(solid.center_m - origin_m)) for solid in solids]
    for index in np.argsort(gaps_m, kind="stable"):  # near first: less is painted over
        window = _window(solids[index], pose, camera, stride_px)
        if window is not None:
            whole_px[index] = _paint_body(
                canvas, window, origin_m, bodies[index], solids[index], owner=int(index)
            )
    grain = random.standard_normal(canvas.depth_m.shape, dtype=np.float32) * np.float32(GRAIN)
    visible_px = np.bincount(canvas.owner[canvas.owner >= 0], minlength=len(bodies))
    return Picture(
        image=np.clip(canvas.colours + grain[..., None], 0, 255).astype(np.uint8),
        whole_px=whole_px[: len(layout.objects)],
        visible_px=visible_px[: len(layout.objects)],
    )


def _empty_canvas(pose: Pose, camera: RigCamera, stride_px: int) -> _Canvas:
    directions = rotate(matrix(pose.rotation), pixel_rays(camera, stride_px))
    colours, depth_m = background(directions, np.array(pose.translation_m))
    owner = np.full(depth_m.shape, -1, dtype=np.int16)
    return _Canvas(directions=directions, colours=colours, depth_m=depth_m, owner=owner)


def _paint_body(
    canvas: _Canvas,
    window: tuple[slice, slice],
    origin_m: NDArray[np.float64],
    body: Body,
    solid: Solid,
    *,
    owner: int,
) -> int:
    """Paint a body where nothing nearer stands; return the number of its pixels, hidden or not."""
    rays = canvas.directions[:, *window]
    hits = cast_at_solid(solid, origin_m, rays)
    nearer = hits.distance < canvas.depth_m[window]
    canvas.depth_m[window][nearer] = hits.distance[nearer]
    canvas.owner[window][nearer] = owner
    turn = solid.local_from_global
    start_m = (turn @ (origin_m - solid.center_m))[:, None]
    reached_m = start_m + rotate(turn, rays[:, nearer] * hits.distance[nearer])
    place = (reached_m / solid.half_m[:, None]).astype(np.float32)
    canvas.colours[window][nearer] = body_colours(body, place, hits.axis[nearer])
    return int(np.isfinite(hits.distance).sum())


def _window(
    solid: Solid, pose: Pose, camera: RigCamera, stride_px: int
) -> tuple[slice, slice] | None:
    """Return the rows and columns a solid can cover; None if it is out of view."""
    corners_m = pose.into_child(solid.corners_m)  # (8, 3) camera frame
    depth_m = corners_m[:, 2]
    if (depth_m < NEAR_M).all():
        return None
    if (depth_m < NEAR_M).any():
        return slice(None), slice(None)
    limits = []
    for coordinate, center_px, size_px in (
        (1, camera.center_px[1], IMAGE_HEIGHT_PX),
        (0, camera.center_px[0], IMAGE_WIDTH_PX),
    ):
        along_px = camera.focal_px * corners_m[:, coordinate] / depth_m + center_px
        first = max(int(np.floor(along_px.min() / stride_px)) - 1, 0)
        last = min(int(np.ceil(along_px.max() / stride_px)) + 1, size_px // stride_px)
        if first >= last:
            return None
        limits.append(slice(first, last))
    return limits[0], limits[1]
