"""A query's windows: every token near it, none twice, none of another query."""

import pytest
import torch

from shared.model.attention.windows.local_windows import LocalWindows, TokenLayout, query_cells
from shared.model.geometry.positions import CameraGeometry
from tests.shared.model.attention.scenes import (
    CORNER,
    LAYOUT,
    NOTHING,
    OFF_GRID,
    OVERLAP,
    UNSEEN,
    B,
    Q,
    membership,
    random_cells,
    random_windows,
)


@pytest.fixture
def windows() -> LocalWindows:
    return random_windows()


@pytest.mark.parametrize("seed", range(3))
def test_a_window_holds_the_tokens_of_its_definition_and_each_once(seed: int) -> None:
    cells = random_cells(seed)
    windows = LocalWindows(cells=cells, bev_side=3, camera_side=5)
    near = membership(cells, 3, 5)
    for sensor in (0, 1):
        value = torch.zeros(B, Q, 2)
        value[..., sensor] = 1.0
        over_all = windows.over_memory(windows.spread(value))
        torch.testing.assert_close(over_all, near[..., sensor].float())
    assert torch.equal(windows.covered, near.any(dim=-1))


def test_a_query_without_neighbourhood_has_none(windows: LocalWindows) -> None:
    assert windows.nearby[:, NOTHING].tolist() == [[False, False]] * B
    assert windows.nearby[:, OFF_GRID].tolist() == [[False, True]] * B
    assert windows.nearby[:, UNSEEN].tolist() == [[True, False]] * B


def test_every_camera_that_sees_a_query_counts(windows: LocalWindows) -> None:
    views = (windows.tokens[0, OVERLAP] - LAYOUT.bev_tokens) // (5 * 6)
    seen = windows.inside[0, OVERLAP] & (views >= 0)
    assert set(views[seen & (torch.arange(len(views)) >= 9)].tolist()) == {0, 2, 3}


def test_windows_end_at_the_border(windows: LocalWindows) -> None:
    # Row 6 of 7, column 0 of 9: two rows and two columns of the 3 x 3 remain.
    bev = windows.tokens[0, CORNER, :9][windows.inside[0, CORNER, :9]]
    assert sorted(bev.tolist()) == [45, 46, 54, 55]


@pytest.mark.parametrize("seed", range(3))
def test_nearby_says_whether_a_window_has_any_token(seed: int) -> None:
    windows = random_windows(seed)
    windows.cells.bev[:, 5:8] += torch.tensor([-8, 9])  # around cells beside the map
    near = membership(windows.cells, 3, 5)
    assert torch.equal(windows.nearby, near.any(dim=2))


def test_windows_of_some_queries_are_those_of_all() -> None:
    windows = random_windows()
    some = windows.of_queries(slice(3, 7))
    assert torch.equal(some.covered, windows.covered[:, 3:7])
    assert torch.equal(some.nearby, windows.nearby[:, 3:7])


def test_a_gaussian_is_one_in_the_middle_and_falls_with_the_distance() -> None:
    windows = random_windows()
    profile = windows.gaussian(2.0)
    bev, camera = profile[:9].view(3, 3), profile[9 : 9 + 25].view(5, 5)
    assert bev[1, 1] == camera[2, 2] == 1.0
    torch.testing.assert_close(bev[0, 2], torch.tensor(-2 / 8.0).exp())
    torch.testing.assert_close(camera[0, 3], torch.tensor(-(4 + 1) / 8.0).exp())
    assert profile.shape == windows.tokens.shape[-1:]


def test_no_query_seen_by_any_camera_leaves_the_bev_windows() -> None:
    cells = random_cells(0)
    cells.seen[:] = False
    windows = LocalWindows(cells=cells, bev_side=3, camera_side=5)
    assert windows.tokens.shape == (B, Q, 9)
    assert not windows.nearby[..., 1].any()


def cameras(img_from_lidar: torch.Tensor) -> CameraGeometry:
    return CameraGeometry(
        img_from_lidar=img_from_lidar,
        lidar_from_img=torch.linalg.inv(img_from_lidar),
        height_px=40,
        width_px=60,
    )


def test_cells_are_where_the_points_are_and_not_where_the_range_is_divided() -> None:
    # 1,024 of 1,080 voxels: 8 cells of 0.8 m from -54 m on, not 8 parts of the range.
    layout = TokenLayout(bev=(8, 8), camera=(1, 4, 6))
    points_m = torch.tensor([[[-54.0, -53.3, 0.0], [-50.01, -49.99, 0.0], [-47.5, 0.0, 0.0]]])
    cells = query_cells(
        points_m,
        cameras(torch.eye(4).view(1, 1, 4, 4)),
        layout,
        origin_m=torch.tensor([-54.0, -54.0]),
        bev_cell_m=0.8,
    )
    assert cells.bev[0, :2].tolist() == [[0, 0], [5, 4]]  # row is y, column is x
    assert cells.on_grid.tolist() == [[True, True, False]]


def test_a_point_falls_into_the_patch_that_begins_before_it() -> None:
    # A camera that looks along +x: u = 30 - 10 y / x, v = 20 - 10 z / x, depth x.
    matrix = torch.tensor(
        [[30.0, -10.0, 0.0, 0.0], [20.0, 0.0, -10.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0, 0, 0, 1.0]]
    )
    points_m = torch.tensor(
        [[[2.0, -0.2, -0.2], [1.0, 1.01, -1.5], [-2.0, 0.0, 0.0], [1.0, -3.01, 0.0]]]
    )
    cells = query_cells(
        points_m,
        cameras(matrix.view(1, 1, 4, 4)),
        TokenLayout(bev=(8, 8), camera=(1, 4, 6)),
        origin_m=torch.tensor([-4.0, -4.0]),
        bev_cell_m=1.0,
    )
    assert cells.seen[0, 0].tolist() == [True, True, False, False]  # behind; right of the image
    assert cells.camera[0, 0, :2].tolist() == [[2, 3], [3, 1]]  # (v 21, u 31), (v 35, u 19.9)
