"""A plain tile has no window in it, and every query meets every token once."""

import pytest
import torch
from torch import Tensor

from shared.model.attention.windows.local_windows import NOWHERE
from shared.model.attention.windows.tile_schedule import (
    Tile,
    WindowTiles,
    order_queries,
    token_cells,
)
from tests.shared.model.attention.scenes import LAYOUT, B, Q, membership, random_windows

TILE = Tile(queries=16, tokens=16, warps=4, stages=1)
MAP_SIZES = [63, 30, 30, 30, 30]  # 7 x 9 BEV cells and four cameras of 5 x 6


def blocks_of_tokens() -> list[range]:
    """Return the blocks, which begin anew with every map."""
    blocks, start = [], 0
    for size in MAP_SIZES:
        blocks += [range(at, min(at + 16, start + size)) for at in range(start, start + size, 16)]
        start += size
    return blocks


def touched(seed: int) -> Tensor:
    """Return (B, Q, T) bool from the definition: whether a query's windows reach a block."""
    near = membership(random_windows(seed).cells, 3, 5).any(dim=-1)  # (B, Q, N)
    return torch.stack([near[..., list(block)].any(dim=-1) for block in blocks_of_tokens()], -1)


def test_the_order_holds_every_query_once_with_its_windows() -> None:
    windows = random_windows()
    queries = order_queries(windows)
    assert queries.place.shape == (B, 128)
    for sample in range(B):
        places = queries.place[sample]
        assert sorted(places[:Q].tolist()) == list(range(Q))
        assert (places[Q:] == Q).all()
        expected = windows.centres[sample, :, places[:Q].long()]
        torch.testing.assert_close(queries.rows[sample, :, :Q], expected[..., 0].float())
        torch.testing.assert_close(queries.columns[sample, :, :Q], expected[..., 1].float())
    assert (queries.rows[..., Q:] == NOWHERE).all()


def test_queries_of_one_camera_are_neighbours_and_follow_the_bev_rows() -> None:
    windows = random_windows()
    place = order_queries(windows).place[0, :Q].long()
    seen = windows.cells.seen[0, :, place]  # (V, Q)
    first = [next((v for v in range(4) if seen[v, q]), 4) for q in range(Q)]
    assert first == sorted(first)
    for camera in range(5):
        rows = windows.cells.bev[0, place, 0][torch.tensor(first) == camera]
        assert rows.tolist() == sorted(rows.tolist())


@pytest.mark.parametrize("seed", range(3))
def test_tiles_without_a_bias_are_whole_and_no_window_touches_them(seed: int) -> None:
    tiles = WindowTiles(random_windows(seed))
    schedule = tiles.schedule(TILE)
    blocks, near = blocks_of_tokens(), touched(seed)
    assert schedule.first_tokens.tolist() == [block.start for block in blocks]
    number = {block.start: at for at, block in enumerate(blocks)}
    for sample in range(B):
        firsts = [number[first] for first in schedule.tokens_of[sample, 0].tolist()]
        assert sorted(firsts) == list(range(len(blocks)))
        plain = firsts[: schedule.plain_tokens[sample, 0]]
        wanted = [at for at, block in enumerate(blocks)
                  if len(block) == 16 and not near[sample, :, at].any()]  # fmt: skip
        assert plain == wanted


def test_blocks_of_tokens_and_of_queries_agree_on_their_plain_tiles() -> None:
    schedule = WindowTiles(random_windows()).schedule(TILE)
    starts = schedule.first_tokens.tolist()
    for sample in range(B):
        of_queries = {
            (block, starts.index(first))
            for block, count in enumerate(schedule.plain_tokens[sample].tolist())
            for first in schedule.tokens_of[sample, block, :count].tolist()
        }
        of_tokens = {
            (block, number)
            for number, count in enumerate(schedule.plain_queries[sample].tolist())
            for block in schedule.queries_of[sample, number, :count].tolist()
        }
        assert of_queries == of_tokens
        assert len(of_queries) > 0


def test_a_token_is_found_by_its_row_and_column() -> None:
    row, column = token_cells(LAYOUT, torch.device("cpu"))
    assert (row[62], column[62]) == (6, 8)  # the last of 7 x 9 BEV cells
    assert (row[63 + 30 + 7], column[63 + 30 + 7]) == (1, 1)  # of the second camera's 5 x 6
