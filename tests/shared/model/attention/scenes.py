"""Random geometry: queries in the middle, at borders, off the grid, seen by none, one, many."""

import torch
from torch import Tensor

from shared.model.attention.windows.local_windows import LocalWindows, QueryCells, TokenLayout

B, Q, HEADS, E = 2, 11, 3, 8
LAYOUT = TokenLayout(bev=(7, 9), camera=(4, 5, 6))
NOTHING, OFF_GRID, UNSEEN, OVERLAP, CORNER = range(5)  # queries with a fate of their own


def random_cells(seed: int) -> QueryCells:
    """Return cells; the first queries are the ones named above."""
    generator = torch.Generator().manual_seed(seed)

    def draw(high: int, *shape: int) -> Tensor:
        return torch.randint(high, shape, generator=generator)

    bev = torch.stack([draw(LAYOUT.bev[0], B, Q), draw(LAYOUT.bev[1], B, Q)], dim=-1)
    on_grid = draw(4, B, Q) > 0
    views, rows, columns = LAYOUT.camera
    camera = torch.stack([draw(rows, B, views, Q), draw(columns, B, views, Q)], dim=-1)
    seen = draw(3, B, views, Q) == 0
    on_grid[:, [NOTHING, OFF_GRID]], seen[:, :, [NOTHING, UNSEEN]] = False, False
    on_grid[:, UNSEEN], seen[:, 1, OFF_GRID] = True, True
    seen[:, :, OVERLAP] = torch.tensor([True, False, True, True])
    bev[:, CORNER], on_grid[:, CORNER] = torch.tensor([6, 0]), True
    camera[:, 2, CORNER], seen[:, 2, CORNER] = torch.tensor([0, 5]), True
    return QueryCells(layout=LAYOUT, bev=bev, on_grid=on_grid, camera=camera, seen=seen)


def random_windows(seed: int = 0, *, bev_side: int = 3, camera_side: int = 5) -> LocalWindows:
    return LocalWindows(cells=random_cells(seed), bev_side=bev_side, camera_side=camera_side)


def membership(cells: QueryCells, bev_side: int, camera_side: int) -> Tensor:
    """Return (B, Q, N, 2) bool from the definition, token by token."""
    layout = cells.layout
    near = torch.zeros(*cells.bev.shape[:2], layout.tokens, 2, dtype=torch.bool)
    views, rows, columns = layout.camera
    for b, q in torch.cartesian_prod(
        torch.arange(len(cells.bev)), torch.arange(cells.bev.shape[1])
    ):
        for row, column in torch.cartesian_prod(*map(torch.arange, layout.bev)):
            distance = (torch.stack([row, column]) - cells.bev[b, q]).abs().max()
            token = row * layout.bev[1] + column
            near[b, q, token, 0] = cells.on_grid[b, q] and distance <= bev_side // 2
        for view in range(views):
            for row, column in torch.cartesian_prod(torch.arange(rows), torch.arange(columns)):
                distance = (torch.stack([row, column]) - cells.camera[b, view, q]).abs().max()
                token = layout.bev_tokens + (view * rows + row) * columns + column
                near[b, q, token, 1] = cells.seen[b, view, q] and distance <= camera_side // 2
    return near


def drawn(*shape: int, seed: int = 1, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator) * scale).requires_grad_()
