"""The frozen ResNet gives the same as mmdet's own class, bit for bit.

The class is called with the values of the official r50 config.

Source: CMT, projects/configs/fusion/cmt_voxel0100_r50_800x320_cbgs.py.
"""

from dataclasses import replace

import pytest
import torch
from mmdet.models.backbones import ResNet
from torch import nn

from shared.config.preset_catalogue import r50_800x320
from stage1_extract.backbones.frozen import FrozenBackbones
from tests.stage1_extract.backbones.random_weights import randomise

V, HEIGHT_PX, WIDTH_PX = 2, 64, 160


def official_resnet() -> nn.Module:
    return ResNet(
        depth=50,
        num_stages=4,
        out_indices=(2, 3),
        frozen_stages=-1,
        norm_cfg={"type": "BN", "requires_grad": True},
        norm_eval=True,
        with_cp=True,
        style="pytorch",
    )


@pytest.fixture(scope="module")
def camera() -> FrozenBackbones:
    """The camera branch of the r50 preset for smaller images, with the same layers."""
    preset = r50_800x320()
    small = replace(preset.camera, height_px=HEIGHT_PX, width_px=WIDTH_PX)
    frozen = FrozenBackbones(replace(preset, camera=small, lidar=None))
    randomise(frozen)
    return frozen


@pytest.fixture(scope="module")
def official(camera: FrozenBackbones) -> nn.Module:
    """The official module in eval mode, with our weights, loaded strictly by its own code."""
    resnet = official_resnet()
    resnet.load_state_dict(camera.img_backbone.state_dict(), strict=True)
    resnet.eval()
    return resnet


@pytest.mark.parametrize("samples", [1, 3])
def test_the_camera_maps_equal_those_of_mmdets_resnet(
    camera: FrozenBackbones, official: nn.Module, samples: int
) -> None:
    size = (samples, V, 3, HEIGHT_PX, WIDTH_PX)
    images = torch.randn(size, generator=torch.Generator().manual_seed(samples))

    maps = camera(images, None)
    with torch.inference_mode():
        expected = official(images.flatten(0, 1))

    for name, values in zip(("camera/stride16", "camera/stride32"), expected, strict=True):
        assert values.std() > 0.1  # the network had something to say
        assert torch.equal(maps[name].flatten(0, 1), values)
