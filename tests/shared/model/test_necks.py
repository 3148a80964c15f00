"""Both necks, on maps for which the result is known."""

import torch

from shared.model.bev_neck import BevNeck
from shared.model.camera_neck import CameraNeck


def test_the_camera_neck_adds_the_coarse_map_to_the_fine_one() -> None:
    neck = CameraNeck((2, 3), width=1)
    for parameter in neck.parameters():
        torch.nn.init.zeros_(parameter)
    neck.requires_grad_(False)
    neck.lateral_convs[0].conv.weight[:] = 1.0  # sums 2 channels
    neck.lateral_convs[1].conv.weight[:] = 10.0  # sums 3 channels
    neck.fpn_convs[0].conv.weight[..., 1, 1] = 2.0  # doubles
    fine, coarse = neck([torch.ones(1, 2, 3, 5), torch.ones(1, 3, 2, 3)])
    assert torch.equal(coarse, torch.full((1, 1, 2, 3), 30.0))
    assert torch.equal(fine, torch.full((1, 1, 3, 5), 2 * (2.0 + 30.0)))


def test_the_camera_neck_does_not_change_its_inputs() -> None:
    maps = [torch.randn(1, 2, 4, 6), torch.randn(1, 3, 2, 3)]
    before = [level.clone() for level in maps]
    CameraNeck((2, 3), width=4)(maps)
    assert all(torch.equal(a, b) for a, b in zip(maps, before, strict=True))


def test_the_bev_neck_stacks_both_maps_at_the_fine_resolution() -> None:
    neck = BevNeck((2, 3), (4, 5), strides=(1, 2)).eval()
    merged = neck([torch.randn(2, 2, 6, 6), torch.randn(2, 3, 3, 3)])
    assert merged.shape == (2, 9, 6, 6)
    assert (merged >= 0).all()


def test_the_bev_neck_upsamples_each_cell_by_itself() -> None:
    neck = BevNeck((2, 3), (4, 5), strides=(1, 2)).eval()
    fine, coarse = torch.randn(1, 2, 6, 6), torch.randn(1, 3, 3, 3)
    moved = coarse.clone()
    moved[..., 1, 2] += 1.0
    changed = (neck([fine, coarse]) != neck([fine, moved])).any(dim=1)[0]
    assert changed.nonzero().min(dim=0).values.tolist() == [2, 4]
    assert changed.nonzero().max(dim=0).values.tolist() == [3, 5]
