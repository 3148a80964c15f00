"""Which memory tokens are near a query: a window of BEV cells, and one in every camera seeing it.

B samples, V views, Q queries, N memory tokens, W tokens of a query's windows, H W feature rows and
columns, Y X BEV rows and columns.

Source: MoME, multi_expert.py, and the AQR fork of CMT, remade. Upstream takes the first camera that
sees a query, lets a query that none sees look at view 0, row 0, and spreads the BEV cells over the
whole point range.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from shared.model.geometry.positions import CameraGeometry, project


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenLayout:
    """How the memory is laid out: BEV cells row by row, then the cameras' pixels.

    Args:
        bev: (Y, X).
        camera: (V, H, W).
    """

    bev: tuple[int, int]
    camera: tuple[int, int, int]

    @staticmethod
    def of(bev: Tensor, camera: Tensor) -> "TokenLayout":
        """Describe the memory of a BEV map (B, C, Y, X) and camera maps (B, V, C, H, W)."""
        (rows, columns), (views, _, high, wide) = bev.shape[-2:], camera.shape[1:]
        return TokenLayout(bev=(rows, columns), camera=(views, high, wide))

    @property
    def bev_tokens(self) -> int:
        """How many tokens come from the LiDAR."""
        return self.bev[0] * self.bev[1]

    @property
    def tokens(self) -> int:
        """N."""
        views, rows, columns = self.camera
        return self.bev_tokens + views * rows * columns


@dataclass(frozen=True, kw_only=True, slots=True)
class QueryCells:
    """Where the queries lie on both maps.

    Args:
        layout: of the maps.
        bev: (B, Q, 2) int64, row and column; meaningless where `on_grid` is False.
        on_grid: (B, Q) bool.
        camera: (B, V, Q, 2) int64, row and column; meaningless where `seen` is False.
        seen: (B, V, Q) bool, the camera sees the query's reference point.
    """

    layout: TokenLayout
    bev: Tensor
    on_grid: Tensor
    camera: Tensor
    seen: Tensor

    def since(self, first: int) -> "QueryCells":
        """Return the cells without those of the first queries."""
        return QueryCells(
            layout=self.layout,
            bev=self.bev[:, first:],
            on_grid=self.on_grid[:, first:],
            camera=self.camera[:, :, first:],
            seen=self.seen[:, :, first:],
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalWindows:
    """The tokens near each query; every token at most once.

    Args:
        cells: what the windows are around.
        bev_side, camera_side: cells along a side, odd.
        tokens: (B, Q, W) int64, place in the memory; 0 where `inside` is False.
        inside: (B, Q, W) bool.
        bev_columns: how many of the W are BEV cells; they come first.
    """

    cells: QueryCells
    bev_side: int
    camera_side: int
    tokens: Tensor
    inside: Tensor
    bev_columns: int

    @property
    def nearby(self) -> Tensor:
        """(B, Q, 2) bool: whether there is any BEV cell, and any camera pixel."""
        bev, camera = self.inside[..., : self.bev_columns], self.inside[..., self.bev_columns :]
        return torch.stack([bev.any(dim=-1), camera.any(dim=-1)], dim=-1)

    @property
    def sensor(self) -> Tensor:
        """(W,) int64: 0 for BEV cells, 1 for camera pixels."""
        return (
            torch.arange(self.tokens.shape[-1], device=self.tokens.device) >= self.bev_columns
        ).long()

    def spread(self, per_sensor: Tensor) -> Tensor:
        """Return (B, Q, W): a query's (B, Q, 2) value for each of its tokens, 0 outside."""
        return per_sensor[..., self.sensor] * self.inside

    def dense(self, per_sensor: Tensor) -> Tensor:
        """Return (B, Q, N): the same over the whole memory, 0 outside the windows."""
        over_all = per_sensor.new_zeros(*self.tokens.shape[:2], self.cells.layout.tokens)
        return over_all.scatter_add(2, self.tokens, self.spread(per_sensor))


@torch.no_grad()
def query_cells(
    points_m: Tensor,
    cameras: CameraGeometry,
    layout: TokenLayout,
    *,
    origin_m: Tensor,
    bev_cell_m: float,
) -> QueryCells:
    """Find the cell of every query's reference point on both maps.

    Args:
        points_m: (B, Q, 3) float, metres, LiDAR frame.
        cameras: of the batch.
        layout: of the maps.
        origin_m: (2,) float, x and y where the BEV grid begins.
        bev_cell_m: side of a BEV cell; the last column of the r50 preset ends at 48.4 m, short of
            the range, and what lies beyond has no cell.
    """
    rows, columns = layout.bev
    x_then_y = ((points_m[..., :2] - origin_m) / bev_cell_m).floor()  # (B, Q, 2)
    bev = x_then_y.flip(-1).long()
    size = bev.new_tensor([rows, columns])
    pixels, seen = project(points_m, cameras)  # (B, V, Q, 3)
    _, rows, columns = layout.camera
    per_px = pixels.new_tensor([columns / cameras.width_px, rows / cameras.height_px])
    # A pixel of the map stands for the patch of the image that begins there.
    camera = (pixels[..., :2] * per_px).masked_fill(~seen.unsqueeze(-1), 0.0).floor().flip(-1)
    return QueryCells(
        layout=layout,
        bev=bev,
        on_grid=((bev >= 0) & (bev < size)).all(dim=-1),
        camera=camera.long(),
        seen=seen,
    )


@torch.no_grad()
def local_windows(cells: QueryCells, *, bev_side: int, camera_side: int) -> LocalWindows:
    """List the tokens around every query.

    A query off the grid has no BEV window, one that no camera sees no camera window; windows end
    at the border of their map. W depends on the batch: its fullest query is seen by most cameras.
    """
    layout = cells.layout
    bev_tokens, on_bev = _around(cells.bev, bev_side, layout.bev)  # (B, Q, side^2)
    _, rows, columns = layout.camera
    slots = int(cells.seen.sum(dim=1).max()) if cells.seen.numel() else 0
    views = cells.seen.byte().argsort(dim=1, descending=True, stable=True)[:, :slots]  # (B, S, Q)
    centres = cells.camera.gather(1, views.unsqueeze(-1).expand(-1, -1, -1, 2))  # (B, S, Q, 2)
    pixels, on_image = _around(centres, camera_side, (rows, columns))  # (B, S, Q, side^2)
    pixels = pixels + layout.bev_tokens + (views * rows * columns).unsqueeze(-1)
    on_image = on_image & cells.seen.gather(1, views).unsqueeze(-1)
    tokens = torch.cat([bev_tokens, pixels.transpose(1, 2).flatten(2)], dim=-1)  # (B, Q, W)
    inside = torch.cat(
        [on_bev & cells.on_grid.unsqueeze(-1), on_image.transpose(1, 2).flatten(2)], dim=-1
    )
    return LocalWindows(
        cells=cells,
        bev_side=bev_side,
        camera_side=camera_side,
        tokens=tokens.masked_fill(~inside, 0),
        inside=inside,
        bev_columns=bev_side**2,
    )


def _around(centres: Tensor, side: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return (..., side^2) tokens of one map, row by row, and which of them are on it."""
    steps = torch.arange(side, device=centres.device) - side // 2
    rows = (centres[..., :1] + steps).unsqueeze(-1)  # (..., side, 1)
    columns = (centres[..., 1:] + steps).unsqueeze(-2)  # (..., 1, side)
    inside = (rows >= 0) & (rows < size[0]) & (columns >= 0) & (columns < size[1])
    return (rows * size[1] + columns).flatten(-2), inside.flatten(-2)
