"""The dense loss asks the right cells and pixels, and only of sensors that are there."""

import math

import pytest
import torch
from torch import Tensor

from benchmarks.experiments.pretrain_tiny.dense_heads import DenseHeads, covered
from benchmarks.experiments.pretrain_tiny.trained_backbones import AddLoss
from shared.config.classes import CAMERAS, LIDAR
from shared.config.preset_catalogue import tiny
from shared.data.batch import Batch
from shared.data.sensor_drop import NOTHING, Absent, condition
from shared.model.box_coder import encode_boxes
from shared.model.geometry.positions import CameraGeometry, invert_cameras

PRESET = tiny()
BEV, CAMERA = PRESET.lidar_maps[0].name, PRESET.camera_maps[0].name
CAR, CONE = 0, 8
FRONT = 0


def box(x_m: float, y_m: float, *, length_m: float, width_m: float, yaw_rad: float) -> Tensor:
    return torch.tensor([[x_m, y_m, -1.0, length_m, width_m, 1.5, yaw_rad, 0.5, -0.5]])


def cameras(samples: int) -> CameraGeometry:
    """Six cameras in the LiDAR that look along +y; only the first has something before it."""
    forward = torch.tensor(
        [[50.0, 80.0, 0.0, 0.0], [0.0, 32.0, -50.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0, 0, 0, 1]],
        dtype=torch.float64,
    )
    backward = forward.clone()
    backward[:3, :] *= -1
    matrices = torch.stack([forward, *[backward] * 5]).expand(samples, -1, -1, -1)
    return invert_cameras(matrices, height_px=64, width_px=160, dtype=torch.float32)


def batch(boxes: list[Tensor], labels: list[int], absent: list[Absent]) -> Batch:
    return Batch(
        tokens=tuple(str(index) for index in range(len(boxes))),
        maps={},
        img_from_lidar=cameras(len(boxes)).img_from_lidar.double(),
        boxes_lidar=tuple(boxes),
        labels=tuple(torch.tensor([label]) for label in labels),
        conditions=tuple(condition(lost) for lost in absent),
    )


def maps(samples: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    return {
        spec.name: torch.randn(samples, *spec.shape, generator=random).requires_grad_()
        for spec in (PRESET.lidar_maps[0], PRESET.camera_maps[0])
    }


def gradients(absent: list[Absent]) -> tuple[Tensor, Tensor]:
    """Return the loss's gradients at the BEV and camera maps of a batch of two samples."""
    torch.manual_seed(0)
    boxes = [box(3.0, 10.0, length_m=4.0, width_m=2.0, yaw_rad=0.3)] * 2
    inputs = maps(2)
    asked = batch(boxes, [CAR, CONE], absent)
    DenseHeads(PRESET)(inputs, asked, cameras(2)).backward()
    bev, camera = inputs[BEV].grad, inputs[CAMERA].grad
    assert bev is not None
    assert camera is not None
    return bev, camera


def test_a_box_covers_the_cells_whose_centres_are_inside_and_the_one_of_its_own_centre() -> None:
    """Cells of 1 m, centres at 0.5, 1.5, 2.5, 3.5; the long box is turned by 90 degrees."""
    steps = torch.arange(4) + 0.5
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    centres_m = torch.stack([x, y], dim=-1).flatten(0, 1)
    boxes = torch.cat(
        [
            box(1.6, 1.9, length_m=3.0, width_m=1.0, yaw_rad=math.pi / 2),
            box(3.2, 0.7, length_m=0.2, width_m=0.2, yaw_rad=0.0),
        ]
    )

    long, small = covered(boxes, centres_m, 1.0).view(2, 4, 4)

    assert long.nonzero().tolist() == [[0, 1], [1, 1], [2, 1]]
    assert small.nonzero().tolist() == [[0, 3]]


def test_the_loss_of_a_right_answer_is_almost_nothing() -> None:
    heads = DenseHeads(PRESET)
    truth = box(0.8, 10.4, length_m=1.0, width_m=1.0, yaw_rad=0.0)  # in the middle of a cell
    asked = batch([truth], [CONE], [NOTHING])
    cell = round((10.4 + 28.8) / 1.6 - 0.5), round((0.8 + 28.8) / 1.6 - 0.5)
    u_px, v_px = 50 * 0.8 / 10.4 + 80, 32 + 50 * 1.0 / 10.4
    pixel = int(v_px / 16), int(u_px / 16)
    bev = torch.full((1, 20, 36, 36), -20.0)
    bev[0, CONE, *cell] = 20.0
    centred = truth.clone()
    centred[:, :2] = 0.0
    bev[0, 10:, *cell] = encode_boxes(centred)[0]
    camera = torch.full((1, 6, 11, 4, 10), -20.0)
    camera[0, FRONT, CONE, *pixel] = 20.0
    camera[0, FRONT, 10, *pixel] = math.log(10.4 / 10)

    def loss(bev: Tensor, camera: Tensor) -> float:
        where = (torch.zeros(1, dtype=torch.long), truth, asked.labels[0])
        of_lidar = heads._bev_loss(bev, asked.conditions, *where)
        of_cameras = heads._camera_loss(camera, asked.conditions, cameras(1), *where)
        return float(of_lidar + of_cameras)

    assert loss(bev, camera) < 1e-4
    for shifted in (bev.roll(1, dims=3), bev.roll(1, dims=2)):
        assert loss(shifted, camera) > 1
    for axis in (1, 3, 4):
        assert loss(bev, camera.roll(1, dims=axis)) > 1


@pytest.mark.parametrize("lost", [0, 1])
def test_an_absent_lidar_is_asked_nothing(lost: int) -> None:
    absent: list[Absent] = [NOTHING, NOTHING]
    absent[lost] = (LIDAR,)
    bev, camera = gradients(absent)
    assert bev[lost].abs().max() == 0
    assert bev[1 - lost].abs().max() > 0
    assert (camera.abs().amax(dim=(2, 3, 4)) > 0).all()  # every view of both samples


def test_absent_cameras_are_asked_nothing() -> None:
    bev, camera = gradients([CAMERAS, (CAMERAS[2],)])
    assert (bev.abs().amax(dim=(1, 2, 3)) > 0).all()
    is_asked = camera.abs().amax(dim=(2, 3, 4)) > 0  # (B, V)
    assert is_asked.tolist() == [[False] * 6, [True, True, False, True, True, True]]


def test_a_batch_without_boxes_has_a_finite_loss() -> None:
    nothing = batch([torch.zeros(0, 9)], [0], [NOTHING])
    nothing = Batch(
        tokens=nothing.tokens,
        maps={},
        img_from_lidar=nothing.img_from_lidar,
        boxes_lidar=nothing.boxes_lidar,
        labels=(torch.zeros(0, dtype=torch.long),),
        conditions=nothing.conditions,
    )
    loss = DenseHeads(PRESET)(maps(1), nothing, cameras(1))
    assert loss.isfinite()
    assert loss > 0


def test_an_added_loss_changes_no_value_and_adds_its_gradient() -> None:
    values = torch.tensor([1.0, 2.0], requires_grad=True)
    weight = torch.tensor(3.0, requires_grad=True)

    passed = AddLoss.apply(values, weight**2)
    (5 * passed).sum().backward()

    assert torch.equal(passed, values)
    assert torch.equal(values.grad, torch.tensor([5.0, 5.0]))
    assert weight.grad == 6.0
