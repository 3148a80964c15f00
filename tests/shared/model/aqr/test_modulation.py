"""Weights rendered on the maps scale the features there, and only near queries."""

import torch

from shared.model.aqr.modulation import modulate, splat_windows, weight_map
from shared.model.attention.windows.local_windows import QueryCells
from tests.shared.model.attention.scenes import LAYOUT, B, Q, drawn, random_cells


def single_query() -> QueryCells:
    return QueryCells(
        layout=LAYOUT,
        bev=torch.tensor([[[3, 4]]]),
        on_grid=torch.tensor([[True]]),
        camera=torch.tensor([2, 2]).expand(1, 4, 1, 2),
        seen=torch.tensor([False, True, False, True]).view(1, 4, 1),
    )


def test_a_single_query_renders_a_gaussian_around_itself() -> None:
    rendered = weight_map(
        torch.tensor([[[0.5, -1.0]]]), splat_windows(single_query(), splat_cells=1.0), 1.0
    )
    bev = rendered[0, : LAYOUT.bev_tokens].view(LAYOUT.bev)
    cameras = rendered[0, LAYOUT.bev_tokens :].view(LAYOUT.camera)
    rows, columns = torch.meshgrid(torch.arange(7) - 3, torch.arange(9) - 4, indexing="ij")
    expected = 0.5 * torch.exp(-(rows**2 + columns**2) / 2.0) * (columns.abs() <= 3)
    torch.testing.assert_close(bev, expected)
    assert [float(camera.min()) for camera in cameras] == [0.0, -1.0, 0.0, -1.0]
    assert tuple(int(i) for i in torch.unravel_index(cameras[1].argmin(), (5, 6))) == (2, 2)


def test_a_map_stays_between_the_weights_however_many_queries_overlap() -> None:
    cells = random_cells(0)
    weights = torch.full((B, Q, 2), -1.0)
    rendered = weight_map(weights, splat_windows(cells, 2.0), 2.0)
    assert rendered.min() >= -1.0 - 1e-6
    assert rendered.max() <= 0.0


def test_neutral_weights_leave_the_memory_to_the_bit() -> None:
    keys, values = drawn(B, LAYOUT.tokens, 4, seed=1), drawn(B, LAYOUT.tokens, 4, seed=2)
    same = modulate(keys, values, torch.zeros(B, LAYOUT.tokens), residual=0.7)
    assert torch.equal(same[0], keys)
    assert torch.equal(same[1], values)


def test_full_distrust_leaves_the_residual_and_the_positions() -> None:
    keys, values = drawn(B, LAYOUT.tokens, 4, seed=1), drawn(B, LAYOUT.tokens, 4, seed=2)
    less_keys, less = modulate(keys, values, torch.full((B, LAYOUT.tokens), -1.0), residual=0.7)
    torch.testing.assert_close(less, 0.7 * values)
    torch.testing.assert_close(less_keys - less, keys - values)
