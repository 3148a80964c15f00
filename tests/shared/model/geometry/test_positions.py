"""Geometry that can be checked by hand."""

import math

import pytest
import torch
from torch import Tensor

from shared.model.geometry.positions import (
    CameraGeometry,
    bev_fractions,
    bev_waves,
    fractions_to_metres,
    inverse_sigmoid,
    invert_cameras,
    metres_to_fractions,
    pixel_rays_m,
    query_rays_m,
    ray_depths_m,
    sine_embedding,
)

HEIGHT_PX, WIDTH_PX = 20, 30
RANGE_M = torch.tensor([[-10.0, -20.0, -5.0], [10.0, 20.0, 3.0]])


@pytest.fixture
def camera() -> CameraGeometry:
    """A camera that looks along z, focal length 10 px, image centre at (15, 10)."""
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:2, :3] = torch.tensor([[10.0, 0.0, 15.0], [0.0, 10.0, 10.0]])
    return _geometry(matrix)


def _geometry(matrix: Tensor) -> CameraGeometry:
    return invert_cameras(
        matrix.view(1, 1, 4, 4), height_px=HEIGHT_PX, width_px=WIDTH_PX, dtype=torch.float32
    )


def test_cameras_are_inverted_in_float64() -> None:
    matrix = torch.eye(4, dtype=torch.float64) * 3.0
    matrix[0, 3] = 1e9  # in float32 the next number is 64 away
    matrix[1, 3] = 1.0
    cameras = _geometry(matrix)
    assert cameras.lidar_from_img.dtype == torch.float32
    torch.testing.assert_close(
        cameras.lidar_from_img[0, 0], torch.linalg.inv(matrix).float(), rtol=0, atol=0
    )


def test_sine_embedding_is_y_then_x_with_sine_then_cosine() -> None:
    x, y = 0.25, 0.5
    embedded = sine_embedding(torch.tensor([x, y, 0.9]), width=4)
    angles = [2 * math.pi * y, 2 * math.pi * y / 1.5, 2 * math.pi * x, 2 * math.pi * x / 1.5]
    expected = [wave(angle) for angle in angles for wave in (math.sin, math.cos)]
    torch.testing.assert_close(embedded, torch.tensor(expected), rtol=0, atol=1e-6)


def test_bev_cells_go_row_by_row_and_are_given_as_x_y() -> None:
    cells = bev_fractions(2, 3, like=RANGE_M)
    x = [1 / 6, 3 / 6, 5 / 6] * 2
    y = [1 / 4] * 3 + [3 / 4] * 3
    torch.testing.assert_close(cells, torch.tensor([x, y]).T)


def test_upstream_spreads_the_cells_over_the_range_instead_of_their_own_metres() -> None:
    """The centre of the last of 128 cells of 0.8 m is at 48 m; its embedding says 53.6 m."""
    last_m = bev_fractions(128, 128, like=RANGE_M)[-1] * 108 - 54
    torch.testing.assert_close(last_m, torch.full((2,), 53.578125))


def test_the_embedding_of_the_cells_is_computed_once_and_can_be_trained_with_afterwards() -> None:
    size = (2, 3, 4, torch.float32, torch.device("cpu"))
    with torch.inference_mode():
        waves = bev_waves(*size)
    assert torch.equal(waves, sine_embedding(bev_fractions(2, 3, like=RANGE_M), 4))
    assert bev_waves(*size) is waves
    weight = torch.ones(8, requires_grad=True)
    (waves @ weight).sum().backward()
    torch.testing.assert_close(weight.grad, waves.sum(dim=0))


def test_fractions_and_metres_are_inverse() -> None:
    fractions = torch.tensor([[0.0, 0.5, 1.0], [0.25, 0.75, 2.0]])
    points_m = fractions_to_metres(fractions, RANGE_M)
    torch.testing.assert_close(points_m, torch.tensor([[-10.0, 0.0, 3.0], [-5.0, 10.0, 11.0]]))
    torch.testing.assert_close(metres_to_fractions(points_m, RANGE_M), fractions)


def test_inverse_sigmoid_is_finite_everywhere() -> None:
    logits = inverse_sigmoid(torch.tensor([-3.0, 0.0, 0.5, 1.0, 7.0]))
    expected = torch.tensor([1e-5, 1e-5, 0.5, 1.0, 1.0])
    torch.testing.assert_close(logits.sigmoid(), expected, rtol=1e-4, atol=2e-5)
    assert logits[0] == logits[1]
    assert logits[3] == logits[4]


def test_ray_depths_start_at_one_metre_and_end_before_the_range() -> None:
    depths = ray_depths_m(4, torch.tensor(9.0))
    torch.testing.assert_close(depths, torch.tensor([1.0, 3.0, 5.0, 7.0]))


def test_a_pixel_ray_starts_at_the_upper_left_corner_of_its_feature(camera) -> None:
    depths_m = torch.tensor([1.0, 4.0])
    rays = pixel_rays_m(camera, 2, 3, depths_m)
    assert rays.shape == (1, 1, 2, 3, 2, 3)
    # Feature (row 1, column 2) of 2 x 3 is pixel u = 2 * 30 / 3 = 20, v = 1 * 20 / 2 = 10.
    expected = torch.tensor([[0.5, 0.0, 1.0], [2.0, 0.0, 4.0]])
    torch.testing.assert_close(rays[0, 0, 1, 2], expected)


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        ((0.0, 0.0, 5.0), True),
        ((0.0, 0.0, -5.0), False),  # behind the camera, although it projects to the centre
        ((0.0, 0.0, 0.0), False),  # in the camera itself
        ((-15.0, -10.0, 10.0), True),  # on the upper left corner, u = v = 0
        ((15.1, 0.0, 10.0), False),  # right of the image, u = 30.1
        ((0.0, 10.1, 10.0), False),  # below the image
    ],
)
def test_what_a_camera_sees(camera, point: tuple[float, float, float], expected: bool) -> None:
    rays, visible = query_rays_m(torch.tensor([[point]]), camera, torch.tensor([2.0]))
    assert visible.shape == (1, 1, 1)
    assert bool(visible) is expected
    assert bool((rays != 0).any()) is expected


def test_a_query_ray_goes_through_the_query(camera) -> None:
    point = torch.tensor([1.0, -2.0, 4.0])
    rays, _ = query_rays_m(point.view(1, 1, 3), camera, torch.tensor([4.0, 8.0]))
    torch.testing.assert_close(rays[0, 0, 0], torch.stack([point, 2 * point]))


def test_the_divisor_carries_no_gradient() -> None:
    """With a camera that is the identity, ray = depth * point / point_z; upstream detaches z."""
    point = torch.tensor([[[1.0, 2.0, 4.0]]], requires_grad=True)
    camera = _geometry(torch.eye(4, dtype=torch.float64))
    rays, _ = query_rays_m(point, camera, torch.tensor([3.0]))
    rays.sum().backward()
    assert point.grad is not None
    torch.testing.assert_close(point.grad, torch.full((1, 1, 3), 3.0 / 4.0))


def test_geometry_stays_in_float32_under_autocast(camera) -> None:
    depths_m = torch.tensor([1.0, 53.0])
    points = torch.tensor([[[1.0, -2.0, 40.0]]])
    expected = pixel_rays_m(camera, 2, 3, depths_m), query_rays_m(points, camera, depths_m)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = pixel_rays_m(camera, 2, 3, depths_m), query_rays_m(points, camera, depths_m)[0]
    assert torch.equal(ours[0], expected[0])
    assert torch.equal(ours[1], expected[1])
