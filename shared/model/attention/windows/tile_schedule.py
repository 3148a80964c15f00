"""Which tiles of scores need a bias: what the kernels of biased attention loop over.

The kernels compute the scores in tiles, a block of queries by a block of tokens. Most tiles hold no
token of any window of their queries, and cost what they cost without a bias; the others have to ask
for each score whether its token is inside. A schedule sorts the tiles into these two kinds once per
batch, for all heads, layers and passes.

Queries are taken in an order that brings those with common windows together: by the first camera
that sees them, then by BEV row. For queries spread evenly over the ground, windows then touch 16%
of the tiles of 64 queries by 64 tokens, against 70% in the order of the queries.

B samples, Q queries, P queries padded to whole blocks, M maps, T token blocks, U query blocks.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import pad

from shared.model.attention.windows.local_windows import NOWHERE, LocalWindows, TokenLayout

PADDING = 128  # queries are padded to a multiple: the largest size of a tile, which others divide


@dataclass(frozen=True, kw_only=True, slots=True)
class Tile:
    """How one kernel cuts its work.

    Args:
        queries: in a block.
        tokens: in a block.
        warps: of 32 threads that share a block.
        stages: loads in flight, ahead of the arithmetic.
    """

    queries: int
    tokens: int
    warps: int
    stages: int


@dataclass(frozen=True, kw_only=True, slots=True)
class OrderedQueries:
    """The queries in the order of the kernels.

    Args:
        place: (B, P) int32, which query comes here; Q behind the last.
        rows, columns: (B, M, P) float32, the middle of its window on each map, `NOWHERE` without.
    """

    place: Tensor
    rows: Tensor
    columns: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class TileSchedule:
    """The tiles of each block of queries, and of each block of tokens, plain tiles first.

    Args:
        first_tokens: (T,) int32, of all blocks of tokens, as the memory has them.
        tokens_of: (B, U, T) int32, first tokens of the blocks.
        plain_tokens: (B, U) int32, how many of them need no bias.
        queries_of: (B, T, U) int32, numbers of the blocks.
        plain_queries: (B, T) int32, how many of them need no bias.
    """

    first_tokens: Tensor
    tokens_of: Tensor
    plain_tokens: Tensor
    queries_of: Tensor
    plain_queries: Tensor


class WindowTiles:
    """The order of the queries, and a schedule for each size of a tile that is asked for.

    Args:
        windows: of a batch.
    """

    def __init__(self, windows: LocalWindows) -> None:
        self.windows = windows
        self.queries = order_queries(windows)
        self._schedules: dict[tuple[int, int], TileSchedule] = {}

    def schedule(self, tile: Tile) -> TileSchedule:
        """Return the schedule of the tile's size."""
        size = (tile.queries, tile.tokens)
        if size not in self._schedules:
            self._schedules[size] = schedule_tiles(self.windows, self.queries, tile)
        return self._schedules[size]


def order_queries(windows: LocalWindows) -> OrderedQueries:
    """Put queries with common windows next to each other."""
    cells = windows.cells
    seen, bev_row = cells.seen, cells.bev[..., 0].clamp(-1, cells.layout.bev[0])
    views = seen.shape[1]
    # The first camera that sees a query is the number of cameras before it; `views` if none does.
    camera = (seen.int().cumsum(dim=1) == 0).sum(dim=1)
    near_rows = bev_row + 1 + (cells.layout.bev[0] + 2) * camera  # (B, Q)
    order = near_rows.argsort(dim=-1, stable=True)
    missing = -order.shape[1] % PADDING
    centres = windows.centres.gather(
        2, order[:, None, :, None].expand(-1, views + 1, -1, 2)
    )  # (B, M, Q, 2)
    rows, columns = pad(centres, (0, 0, 0, missing), value=NOWHERE).unbind(-1)
    return OrderedQueries(
        place=pad(order, (0, missing), value=order.shape[1]).int(),
        rows=rows.float().contiguous(),
        columns=columns.float().contiguous(),
    )


def schedule_tiles(windows: LocalWindows, queries: OrderedQueries, tile: Tile) -> TileSchedule:
    """Sort the tiles of one size into those with and without a bias.

    Blocks of tokens never straddle two maps. The last block of a map may be smaller than the
    others; it counts as one with a bias, so that plain tiles need no mask.
    """
    layout, device = windows.cells.layout, windows.centres.device
    touched = []
    for maps, size, side in (
        (slice(0, 1), layout.bev, windows.bev_side),
        (slice(1, None), layout.camera[1:], windows.camera_side),
    ):
        blocks = _blocks_of_map(size, tile.tokens, device)  # (T of a map, 1) each
        rows, columns = queries.rows[:, maps].unsqueeze(2), queries.columns[:, maps].unsqueeze(2)
        reach = side // 2
        near = (rows >= blocks.first_row - reach) & (rows <= blocks.last_row + reach)
        near &= (columns >= blocks.first_column - reach) & (columns <= blocks.last_column + reach)
        near = near.view(*near.shape[:-1], -1, tile.queries)
        near = near.any(dim=-1)  # (B, maps, T of a map, U)
        touched.append((near | blocks.is_partial).flatten(1, 2))
    of_tokens = torch.cat(touched, dim=1)  # (B, T, U)
    of_queries = of_tokens.transpose(1, 2).contiguous()
    starts = _first_tokens(layout, tile.tokens, device)
    return TileSchedule(
        first_tokens=starts,
        tokens_of=starts[of_queries.byte().argsort(dim=-1, stable=True)],
        plain_tokens=(~of_queries).sum(dim=-1, dtype=torch.int32),
        queries_of=of_tokens.byte().argsort(dim=-1, stable=True).int(),
        plain_queries=(~of_tokens).sum(dim=-1, dtype=torch.int32),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Blocks:
    """A map's blocks of tokens, (T of a map, 1) each; a block over two rows has all columns."""

    first_row: Tensor
    last_row: Tensor
    first_column: Tensor
    last_column: Tensor
    is_partial: Tensor


@lru_cache(maxsize=64)
def _blocks_of_map(size: tuple[int, int], tokens: int, device: torch.device) -> _Blocks:
    rows, columns = size
    first = torch.arange(0, rows * columns, tokens)
    last = (first + tokens).clamp(max=rows * columns) - 1
    in_a_row = first // columns == last // columns
    values = (
        first // columns,
        last // columns,
        torch.where(in_a_row, first % columns, 0),
        torch.where(in_a_row, last % columns, columns - 1),
        last - first + 1 < tokens,
    )
    names = ("first_row", "last_row", "first_column", "last_column", "is_partial")
    return _Blocks(**{n: v.unsqueeze(1).to(device) for n, v in zip(names, values, strict=True)})


@lru_cache(maxsize=64)
def _first_tokens(layout: TokenLayout, tokens: int, device: torch.device) -> Tensor:
    """Return (T,) int32: the first token of every block."""
    cameras, rows, columns = layout.camera
    pixels = torch.arange(0, rows * columns, tokens)
    starts = [torch.arange(0, layout.bev_tokens, tokens)]
    starts += [layout.bev_tokens + view * rows * columns + pixels for view in range(cameras)]
    return torch.cat(starts).int().to(device)


@lru_cache(maxsize=16)
def token_cells(layout: TokenLayout, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return (N + `PADDING`,) float32: the row and the column of every token on its map.

    As floats, because a GPU takes the absolute value of a float for free; padded, because kernels
    read whole blocks.
    """
    cameras, *camera_size = layout.camera
    cells = []
    for (rows, columns), maps in ((layout.bev, 1), (camera_size, cameras)):
        cell = torch.arange(rows * columns).repeat(maps)
        cells.append(torch.stack([cell // columns, cell % columns]))
    row, column = pad(torch.cat(cells, dim=1).float(), (0, PADDING)).to(device)
    return row, column
