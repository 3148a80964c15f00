"""Synthetic scenes in the decoder's memory, with a sensor blinded on one side.

Each class has a code (D numbers) per sensor, which appears amid noise in the BEV cells around an
object and in the pixels around its projection. Cameras are blinded by glare on the left, the LiDAR
by spray on the right: such tokens show a pattern of their own, and the code of some class as if
objects were everywhere. So trusting them there misleads, and the pattern shows that they are blind.

B samples, V views, Q queries, N memory tokens, W tokens of the windows, K classes, D width,
n objects of a scene, H W feature rows and columns.
"""

import math
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from shared.config.cut import Cut
from shared.config.preset import Preset
from shared.config.preset_catalogue import tiny
from shared.data.batch import Batch
from shared.model.attention.windows.local_windows import LocalWindows, TokenLayout, query_cells
from shared.model.geometry.positions import CameraGeometry, invert_cameras

Sensor = Literal["cameras", "lidar"]

CUT = Cut(camera="neck", lidar="memory")
QUERIES_A_SIDE = 6  # of a grid over the scene
CLASSES = 2
OBJECTS = 6
BOX = (4.0, 2.0, 1.5, 0.0, 0.0, 0.0)  # length, width, height in metres, yaw and velocity
CENTRE_Z_M = -1.0
JITTER_M = 1.0  # at most, in x and in y, from the query that should find the object
VISIBLE = 0.7  # share of objects that a sensor sees; each is seen by at least one of the two
NOISE = 0.3  # standard deviation; that of a code is 1
FALSE_CODE = 3.0  # strength of false objects relative to real ones
FIELD_OF_VIEW_RAD = math.radians(70.0)


def scene_preset() -> Preset:
    """Return a smaller tiny preset: one decoder layer, coarse cells, only box centres count."""
    small = tiny()
    head = replace(
        small.head,
        queries=QUERIES_A_SIDE**2,
        classes=CLASSES,
        layers=1,
        code_weights=(0.2, 0.2, *[0.0] * 8),
        box_weight=1.0,
    )
    grid = replace(small.grid, voxel_m=(0.4, 0.4, 0.2), sparse_shape=(41, 144, 144))
    return replace(small, name="blinded scenes", grid=grid, head=head)


def query_places_m(preset: Preset) -> Tensor:
    """Return (Q, 3) metres: a grid over the range."""
    low, high = torch.tensor(preset.grid.point_range_m).view(2, 3)
    steps = (torch.arange(QUERIES_A_SIDE) + 0.5) / QUERIES_A_SIDE
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    places = torch.stack([x, y, torch.zeros_like(x)], dim=-1).flatten(0, 1) * (high - low) + low
    places[:, 2] = CENTRE_Z_M
    return places


class BlindedScenes:
    """Draws random scenes.

    Args:
        seed: of the codes and the scenes.
        blinded: "cameras" at x < 0, left of the vehicle, "lidar" at x > 0, right of it, or None.
    """

    def __init__(self, seed: int, *, blinded: Sensor | None) -> None:
        self.preset, self.blinded = scene_preset(), blinded
        self.places_m = query_places_m(self.preset)
        self.cameras = ring_of_cameras(self.preset)
        self._generator = torch.Generator().manual_seed(seed)
        self._camera_map, self._bev_map = CUT.maps(self.preset)
        views, self._width, rows, columns = self._camera_map.shape
        _, *bev = self._bev_map.shape
        self._layout = TokenLayout(bev=(bev[0], bev[1]), camera=(views, rows, columns))
        self._codes = self._normal(2, CLASSES, self._width)
        self._pattern = self._normal(self._width)  # of blinded tokens
        self._left_pixels = left_pixels(self.cameras, rows, columns)
        self._right_cells = right_cells(self.preset)

    @property
    def where_blinded(self) -> Tensor:
        """(Q,) bool: the queries on the side where a sensor is blinded, if any is."""
        x_m = self.places_m[:, 0]
        return x_m > 0 if self.blinded == "lidar" else x_m < 0

    def draw(self, samples: int) -> Batch:
        """Return a batch of scenes."""
        objects = [self._objects() for _ in range(samples)]
        memory = NOISE * self._normal(samples, self._layout.tokens, self._width)  # (B, N, D)
        memory = memory + torch.stack(
            [self._evidence(centres, labels) for centres, labels in objects]
        )
        bev, camera = memory.tensor_split([self._layout.bev_tokens], dim=1)
        if self.blinded == "cameras":
            camera = self._blind(camera, self._left_pixels, self._codes[1])
        elif self.blinded == "lidar":
            bev = self._blind(bev, self._right_cells, self._codes[0])
        boxes = [functional.pad(centres, (0, len(BOX))) for centres, _ in objects]  # (n, 9)
        for of_sample in boxes:
            of_sample[:, 3:] = torch.tensor(BOX)
        bev_map, camera_map = (
            bev.unflatten(1, self._layout.bev).permute(0, 3, 1, 2),
            camera.unflatten(1, self._layout.camera).permute(0, 1, 4, 2, 3),
        )
        return Batch(
            tokens=("by hand",) * samples,
            maps={self._camera_map.name: camera_map, self._bev_map.name: bev_map},
            img_from_lidar=self.cameras.img_from_lidar.double().expand(samples, -1, -1, -1),
            boxes_lidar=tuple(boxes),
            labels=tuple(labels for _, labels in objects),
        )

    def _objects(self) -> tuple[Tensor, Tensor]:
        """Return centres (n, 3) near n different queries, and labels (n,)."""
        chosen = torch.randperm(len(self.places_m), generator=self._generator)[:OBJECTS]
        jitter_m = (2 * torch.rand(OBJECTS, 2, generator=self._generator) - 1) * JITTER_M
        labels = torch.randint(CLASSES, (OBJECTS,), generator=self._generator)
        return self.places_m[chosen] + functional.pad(jitter_m, (0, 1)), labels

    def _evidence(self, centres_m: Tensor, labels: Tensor) -> Tensor:
        """Return (N, D): the codes of objects where the sensors see them."""
        grid = self.preset.grid
        cells = query_cells(
            centres_m.unsqueeze(0),
            self.cameras,
            self._layout,
            origin_m=torch.tensor(grid.point_range_m[:2]),
            bev_cell_m=grid.bev_cell_m,
        )
        windows = LocalWindows(cells=cells, bev_side=3, camera_side=3)
        chance = torch.rand(len(labels), 1, generator=self._generator)
        seen_by = torch.cat([chance < VISIBLE, chance >= 1 - VISIBLE], dim=-1)  # (n, 2)
        shown = windows.spread(seen_by.float().unsqueeze(0))[0]  # (n, W)
        codes = self._codes[:, labels][windows.sensor].transpose(0, 1)  # (n, W, D)
        evidence = torch.zeros(self._layout.tokens, self._width)
        tokens = windows.tokens[0].flatten()
        return evidence.index_add(0, tokens, (codes * shown.unsqueeze(-1)).flatten(0, 1))

    def _blind(self, tokens: Tensor, where: Tensor, codes: Tensor) -> Tensor:
        """Return a sensor's tokens (B, n, D), blinded at `where` (n,); its codes are (K, D)."""
        labels = torch.randint(CLASSES, (len(tokens),), generator=self._generator)
        shown = self._pattern + FALSE_CODE * codes[labels]  # (B, D)
        noise = NOISE * self._normal(*tokens.shape)
        return torch.where(where.unsqueeze(-1), shown.unsqueeze(1) + noise, tokens)

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._generator)


def ring_of_cameras(preset: Preset) -> CameraGeometry:
    """Return six cameras (B is 1), 60 degrees apart; the first looks forward, along y."""
    assert preset.camera is not None
    height_px, width_px = preset.camera.height_px, preset.camera.width_px
    yaw = math.pi / 2 - torch.arange(6, dtype=torch.float64) * math.pi / 3
    zeros, ones = torch.zeros_like(yaw), torch.ones_like(yaw)
    axes = (
        (yaw.sin(), -yaw.cos(), zeros, zeros),
        (zeros, zeros, -ones, zeros),
        (yaw.cos(), yaw.sin(), zeros, zeros),
        (zeros, zeros, zeros, ones),
    )
    cam_from_lidar = torch.stack([torch.stack(axis, -1) for axis in axes], dim=-2)  # (V, 4, 4)
    focal_px = width_px / 2 / math.tan(FIELD_OF_VIEW_RAD / 2)
    img_from_cam = torch.eye(4, dtype=torch.float64)
    img_from_cam[:2, :3] = torch.tensor(
        [[focal_px, 0.0, width_px / 2], [0.0, focal_px, height_px / 2]]
    )
    return invert_cameras(
        (img_from_cam @ cam_from_lidar).unsqueeze(0),
        height_px=height_px,
        width_px=width_px,
        dtype=torch.float32,
    )


def left_pixels(cameras: CameraGeometry, rows: int, columns: int) -> Tensor:
    """Return (V * H * W,) bool: the centre of the pixel looks to x < 0."""
    u_px = (torch.arange(columns) + 0.5) * cameras.width_px / columns
    ones = torch.ones_like(u_px)
    ray = torch.stack([u_px, ones * cameras.height_px / 2, ones, torch.zeros_like(ones)], dim=-1)
    direction = torch.einsum("wo,vco->vwc", ray, cameras.lidar_from_img[0])  # (V, W, 4)
    return (direction[..., 0] < 0).unsqueeze(1).expand(-1, rows, -1).flatten()


def right_cells(preset: Preset) -> Tensor:
    """Return (Y * X,) bool: the centre of the BEV cell lies at x > 0."""
    side = preset.grid.bev_cells
    x_m = preset.grid.point_range_m[0] + (torch.arange(side) + 0.5) * preset.grid.bev_cell_m
    return (x_m > 0).expand(side, -1).flatten()
