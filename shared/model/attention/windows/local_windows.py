"""Which memory tokens are near a query: a window of BEV cells, and one in every camera seeing it.

B samples, V views, Q queries, N memory tokens, W tokens of a query's windows, M maps (BEV, then one
for each camera), H W feature rows and columns, Y X BEV rows and columns.

Source: MoME, multi_expert.py, and the AQR fork of CMT, remade. Upstream takes the first camera that
sees a query, lets a query that none sees look at view 0, row 0, and spreads the BEV cells over the
whole point range.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from shared.model.geometry.positions import CameraGeometry, project
from shared.process.device import device_constant

NOWHERE = -(2**20)  # row and column of a window that does not exist: no token is near it


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
        """Number of tokens from the LiDAR."""
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

    def of_queries(self, queries: slice) -> "QueryCells":
        """Return the cells of some of the queries."""
        return replace(
            self,
            bev=self.bev[:, queries],
            on_grid=self.on_grid[:, queries],
            camera=self.camera[:, :, queries],
            seen=self.seen[:, :, queries],
        )


@dataclass(frozen=True, kw_only=True)
class LocalWindows:
    """The tokens near each query; every token at most once.

    A query off the grid has no BEV window, a query that no camera sees no camera window; windows
    end at the border of their map. The tables `tokens` and `inside` are made when first asked for:
    their size depends on the batch, so that a GPU has to be waited for. The CUDA kernels work from
    `centres` instead.

    Args:
        cells: what the windows are around.
        bev_side, camera_side: cells along a side, odd.
    """

    cells: QueryCells
    bev_side: int
    camera_side: int

    def of_queries(self, queries: slice) -> "LocalWindows":
        """Return the windows of some of the queries."""
        return replace(self, cells=self.cells.of_queries(queries))

    @property
    def bev_columns(self) -> int:
        """How many of the W tokens are BEV cells; they come first."""
        return self.bev_side**2

    @property
    def tokens(self) -> Tensor:
        """(B, Q, W) int64, place in the memory; 0 where `inside` is False."""
        return self._tables[0]

    @property
    def inside(self) -> Tensor:
        """(B, Q, W) bool. W depends on the batch: how many cameras see its fullest query."""
        return self._tables[1]

    @cached_property
    def _tables(self) -> tuple[Tensor, Tensor]:
        """Return `tokens` and `inside`."""
        cells, layout = self.cells, self.cells.layout
        with torch.no_grad():
            bev_tokens, on_bev = _around(cells.bev, self.bev_side, layout.bev)  # (B, Q, side^2)
            _, rows, columns = layout.camera
            slots = int(cells.seen.sum(dim=1).max()) if cells.seen.numel() else 0
            views = cells.seen.byte().argsort(dim=1, descending=True, stable=True)
            views = views[:, :slots]  # (B, S, Q)
            centres = cells.camera.gather(1, views.unsqueeze(-1).expand(-1, -1, -1, 2))
            pixels, on_image = _around(centres, self.camera_side, (rows, columns))
            pixels = pixels + layout.bev_tokens + (views * rows * columns).unsqueeze(-1)
            on_image = on_image & cells.seen.gather(1, views).unsqueeze(-1)  # (B, S, Q, side^2)
            tokens = torch.cat([bev_tokens, pixels.transpose(1, 2).flatten(2)], dim=-1)
            inside = torch.cat(
                [on_bev & cells.on_grid.unsqueeze(-1), on_image.transpose(1, 2).flatten(2)], dim=-1
            )
            return tokens.masked_fill(~inside, 0), inside

    @cached_property
    def centres(self) -> Tensor:
        """(B, M, Q, 2) int32 row and column of the windows' middles, `NOWHERE` without a window."""
        cells = self.cells
        centres = torch.cat([cells.bev.unsqueeze(1), cells.camera], dim=1)
        exists = torch.cat([cells.on_grid.unsqueeze(1), cells.seen], dim=1)
        return centres.int().masked_fill(~exists.unsqueeze(-1), NOWHERE)

    @cached_property
    def nearby(self) -> Tensor:
        """(B, Q, 2) bool: whether there is any BEV cell, and any camera pixel."""
        centres, layout = self.centres, self.cells.layout
        bev = _meets(centres[:, 0], self.bev_side, layout.bev)
        camera = _meets(centres[:, 1:], self.camera_side, layout.camera[1:]).any(dim=1)
        return torch.stack([bev, camera], dim=-1)

    @property
    def sensor(self) -> Tensor:
        """(W,) int64: 0 for BEV cells, 1 for camera pixels."""
        return (
            torch.arange(self.tokens.shape[-1], device=self.tokens.device) >= self.bev_columns
        ).long()

    def spread(self, per_sensor: Tensor) -> Tensor:
        """Return (B, Q, W): a query's (B, Q, 2) value for each of its tokens, 0 outside."""
        return per_sensor[..., self.sensor] * self.inside

    def gaussian(self, sigma_cells: float) -> Tensor:
        """Return (W,): a Gaussian of that standard deviation around each window's middle, 1 in it.

        The distance is that of the cells, along rows and columns of their map.
        """
        cameras = (self.tokens.shape[-1] - self.bev_columns) // self.camera_side**2
        pieces = []
        for side, times in ((self.bev_side, 1), (self.camera_side, cameras)):
            steps = torch.arange(side, device=self.tokens.device) - side // 2
            squared = steps.square().unsqueeze(0) + steps.square().unsqueeze(1)
            pieces.append((-squared / (2 * sigma_cells**2)).exp().flatten().repeat(times))
        return torch.cat(pieces)

    def over_memory(self, entries: Tensor) -> Tensor:
        """Return (B, Q, N): entries (B, Q, W) of the windows in their places, 0 outside."""
        everywhere = entries.new_zeros(*self.tokens.shape[:2], self.cells.layout.tokens)
        return everywhere.scatter_add(2, self.tokens, entries * self.inside)

    @cached_property
    def covered(self) -> Tensor:
        """(B, Q, N) bool: the tokens inside; for references that mask the whole memory."""
        return self.over_memory(self.inside.float()) > 0


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
    x_then_y = ((points_m[..., :2] - origin_m) / bev_cell_m).floor()  # (B, Q, 2)
    bev = x_then_y.flip(-1).long()
    pixels, seen = project(points_m, cameras)  # (B, V, Q, 3)
    _, rows, columns = layout.camera
    scale = (columns / cameras.width_px, rows / cameras.height_px)
    per_px = device_constant(scale, pixels.device).to(pixels)
    # A pixel of the map stands for the patch of the image that begins there.
    camera = (pixels[..., :2] * per_px).masked_fill(~seen.unsqueeze(-1), 0.0).floor().flip(-1)
    return QueryCells(
        layout=layout,
        bev=bev,
        on_grid=_meets(bev, 1, layout.bev),
        camera=camera.long(),
        seen=seen,
    )


def _around(centres: Tensor, side: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return (..., side^2) tokens of one map, row by row, and which of them are on it."""
    steps = torch.arange(side, device=centres.device) - side // 2
    rows = (centres[..., :1] + steps).unsqueeze(-1)  # (..., side, 1)
    columns = (centres[..., 1:] + steps).unsqueeze(-2)  # (..., 1, side)
    inside = (rows >= 0) & (rows < size[0]) & (columns >= 0) & (columns < size[1])
    return (rows * size[1] + columns).flatten(-2), inside.flatten(-2)


def _meets(centres: Tensor, side: int, size: tuple[int, int]) -> Tensor:
    """Return (...) bool: whether the window around (..., 2) centres has a cell on its map."""
    (row, column), reach = centres.unbind(-1), side // 2
    in_rows = (row + reach >= 0) & (row - reach < size[0])
    return in_rows & (column + reach >= 0) & (column - reach < size[1])
