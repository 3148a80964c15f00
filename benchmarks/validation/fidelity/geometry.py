"""Fidelity of the projection from LiDAR to pixels: float64 or float32, and pixel positions."""

from collections.abc import Iterator, Sequence

import mmcv
import numpy as np
import torch
from mmdet3d.structures import points_cam2img
from mmdet3d.structures.bbox_3d.utils import get_lidar2img
from numpy.typing import NDArray
from nuscenes.nuscenes import NuScenes
from scipy.spatial import cKDTree

from benchmarks.validation.fidelity.images import TRAINING_FACTORS, bottom_crop
from benchmarks.validation.fidelity.rows import PRESETS, Gap, RealFrame, Row, camera_of, gap_of
from shared.config.classes import LIDAR
from shared.config.preset import CameraBranch
from stage1_extract.nuscenes.records import Camera
from stage1_extract.nuscenes.safe_pickle import load_pickle
from stage1_extract.preprocessing.images import ImageTransform, identity_transform, img_from_lidar
from stage1_extract.preprocessing.sweeps import load_points

STEP = "projection"
SWEEPS = 10
NEAR_M = 1.0  # nearer points are on the ego vehicle, and their pixels diverge
DEMO = "infos/mmdet3d_demo_scene0061.v2.pkl"
ODD_FACTOR = 0.5555  # 888.8 x 499.95 px, truncated to 888 x 499


def v2_matrix(camera: Camera) -> NDArray[np.float32]:
    """Return `lidar2cam` as mmdet3d stores it: transposed, not inverted, and in float32.

    Source: mmdet3d 1.4.0, update_infos_to_v2.py.
    """
    matrix = np.eye(4)
    matrix[:3, :3] = camera.rotation.T
    matrix[:3, 3] = -(camera.rotation.T @ camera.translation_m)
    return matrix.astype(np.float32)


def float32_projection(camera: Camera, transform: ImageTransform) -> torch.Tensor:
    """Return (4, 4) float32, pixels of the network's input from LiDAR, by float32 products.

    Source: mmdet3d 1.4.0, BEVFusion's loading.py (`lidar2img`) and transforms_3d.py
    (`img_aug_matrix`), which the wheel does not hold; the product is mmdet3d's own function.
    """
    intrinsics, augmentation = torch.eye(4), torch.eye(4)
    intrinsics[:3, :3] = torch.from_numpy(camera.intrinsics.astype(np.float32))
    augmentation[:2, :2] *= transform.resize
    augmentation[:2, 2] = -torch.tensor([transform.left_px, transform.top_px])
    raw: torch.Tensor = get_lidar2img(intrinsics, torch.from_numpy(v2_matrix(camera)))
    return augmentation @ raw


def pixels_of(matrix: NDArray[np.float64], points: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return (P, 3) float64: u and v in pixels, depth in metres."""
    projected: NDArray[np.float64] = (
        points[:, :3].astype(np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
    )
    projected[:, :2] /= projected[:, 2:]
    return projected


def projecting(frames: Sequence[RealFrame]) -> Iterator[Row]:
    """Compare float64 with float32 matrices: their entries, and the pixels of visible points."""
    for preset in PRESETS:
        branch = camera_of(preset)
        entries, product, all32, projections, of = Gap(), Gap(), Gap(), 0, 0
        for frame in frames:
            points = load_points(frame.record, SWEEPS)
            transform = identity_transform(branch)
            for camera in frame.record.cameras:
                ours = img_from_lidar(camera, transform, branch)
                theirs = float32_projection(camera, transform)
                entries.add(ours, theirs)
                visible = _visible(pixels_of(ours, points), branch)
                exact = pixels_of(ours, points[visible])[:, :2]
                product.add(exact, pixels_of(theirs.double().numpy(), points[visible])[:, :2])
                at = points_cam2img(torch.from_numpy(points[visible, :3]), theirs)
                all32.add(exact, at)
                projections, of = projections + int(visible.sum()), of + len(points)
        name = f"img_from_lidar, {preset.name}"
        against = "mmdet3d get_lidar2img and BEVFusion's image matrix, float32"
        yield entries.row(STEP, name, against, "matrix entries (px, px m)", "float64 kept")
        remark = f"{projections:,} visible of 6 x {of // 6:,} projections, at {NEAR_M:g} m or more"
        yield product.row(STEP, name, against, "u and v of visible points (px)", remark)
        against = "mmdet3d points_cam2img with that matrix"
        remark = "projected in float32 too"
        yield all32.row(STEP, name, against, "u and v of visible points (px)", remark)
    yield _of_demo_file(frames)
    yield _of_devkit(frames)


def _visible(pixels: NDArray[np.float64], camera: CameraBranch) -> NDArray[np.bool_]:
    u_px, v_px, depth_m = pixels.T
    visible: NDArray[np.bool_] = (
        (depth_m > NEAR_M)
        & (u_px >= 0)
        & (u_px < camera.width_px)
        & (v_px >= 0)
        & (v_px < camera.height_px)
    )
    return visible


def _of_demo_file(frames: Sequence[RealFrame]) -> Row:
    """Compare with the v2 info file of mmdet3d's demo, which contains one of the frames."""
    root = frames[0].record.root
    (demo,) = load_pickle(root / DEMO)["data_list"]
    (record,) = (frame.record for frame in frames if frame.record.token == demo["token"])
    gap = Gap()
    for camera in record.cameras:
        gap.add(v2_matrix(camera), demo["images"][camera.name]["lidar2cam"])
    against = "lidar2cam of mmdet3d's demo info file"
    remark = "layout and sign of the float32 side; this frame's v1 info was rebuilt from that file"
    return gap.row(STEP, "our lidar2cam in float32", against, "matrix entries (-, m)", remark)


def _of_devkit(frames: Sequence[RealFrame]) -> Row:
    """Compare with nuscenes-devkit, which transforms the points sensor by sensor in float32."""
    root = frames[0].record.root
    tables = NuScenes("v1.0-mini", str(root), verbose=False)
    as_recorded = ImageTransform(resize=1.0, left_px=0, top_px=0)
    branch = camera_of(PRESETS[0])
    gap = Gap()
    for frame in frames:
        points = load_points(frame.record, 0)
        tokens = tables.get("sample", frame.record.token)["data"]
        for camera in frame.record.cameras:
            theirs, depth_m, _ = tables.explorer.map_pointcloud_to_image(
                tokens[LIDAR], tokens[camera.name], min_dist=NEAR_M
            )
            ours = pixels_of(img_from_lidar(camera, as_recorded, branch), points)
            # The devkit does not return which points it kept: take the nearest in (u, v, depth).
            distance_px, _ = cKDTree(ours).query(np.column_stack([theirs[:2].T, depth_m]))
            gap.add(distance_px, np.zeros_like(distance_px))
    against = "nuscenes-devkit map_pointcloud_to_image"
    remark = "1600 x 900 px; the devkit passes through global coordinates in float32"
    return gap.row(STEP, "img_from_lidar", against, "distance of visible points (px)", remark)


def resampling(_: Sequence[RealFrame]) -> Iterator[Row]:
    """Compare where the matrix puts a pixel with where OpenCV takes it from."""
    camera = camera_of(PRESETS[0])
    ramp = np.arange(camera.raw_width_px, dtype=np.float32)
    image = np.tile(ramp, (camera.raw_height_px, 1))
    for factor in (1.0, identity_transform(camera).resize, *TRAINING_FACTORS, ODD_FACTOR):
        resized = mmcv.imresize(image, bottom_crop(camera, factor)[1])[0]
        inside = slice(1, -1)  # the outermost pixels are clamped
        gap = gap_of(np.arange(len(resized))[inside], factor * resized[inside].astype(np.float64))
        remark = "the half pixel is ignored, as in the official code"
        if factor == ODD_FACTOR:
            remark += "; the matrix keeps the factor though the size is truncated"
        ours, against = f"img_from_lidar, factor {factor:g}", "mmcv.imresize of a ramp"
        yield gap.row("projection after resize", ours, against, "u (px of the input)", remark)
