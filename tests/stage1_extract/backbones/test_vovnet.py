"""VoVNet-99 has the strides, widths and small print of the official one, checked by hand."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from shared.config.preset import CAMERA_STRIDES, CameraBranch
from shared.config.preset_catalogue import camera_vov_1600x640
from shared.errors import ConfigError
from stage1_extract.backbones.camera_backbone import build_camera_backbone
from stage1_extract.backbones.frozen import FrozenBackbones
from stage1_extract.backbones.seeded_weights import seed_weights
from stage1_extract.backbones.vovnet import ChannelGate, OsaBlock, VoVNet99

IMAGES, HEIGHT_PX, WIDTH_PX = 2, 64, 96
ORDER_ONE = (0.3, 10.0)  # root mean square of a stage's output; 0.8 to 4.1 measured


def branch(base_channels: int) -> CameraBranch:
    return CameraBranch(
        backbone="vovnet99",
        base_channels=base_channels,
        height_px=HEIGHT_PX,
        width_px=WIDTH_PX,
        resize_lim=(0.06, 0.08),
    )


def images(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn((count, 3, HEIGHT_PX, WIDTH_PX), generator=generator)


@pytest.mark.parametrize("base_channels", [4, 8])
def test_the_maps_have_the_channels_and_strides_of_the_camera_branch(base_channels: int) -> None:
    camera = branch(base_channels)
    backbone = build_camera_backbone(camera).eval()

    with torch.inference_mode():
        maps = backbone(images(IMAGES))

    assert [tuple(values.shape) for values in maps] == [
        (IMAGES, channels, HEIGHT_PX // stride, WIDTH_PX // stride)
        for channels, stride in zip(camera.channels, CAMERA_STRIDES, strict=True)
    ]


def test_only_from_its_second_block_on_does_a_stage_add_the_input() -> None:
    model = VoVNet99(4).eval().requires_grad_(False)
    blocks = {
        name: module for name, module in model.named_modules() if isinstance(module, OsaBlock)
    }
    silent, passing = [], []
    for name, block in blocks.items():
        for parameter in block.parameters():
            parameter.zero_()  # so that the block itself adds nothing
        (first, *_) = block.layers
        features = torch.rand(1, first[0].in_channels, 2, 3) + 1.0
        answer = block(features)
        if answer.any():
            torch.testing.assert_close(answer, features, rtol=0, atol=0)
            passing.append(name)
        else:
            silent.append(name)

    assert silent == ["stage2.OSA2_1", "stage3.OSA3_1", "stage4.OSA4_1", "stage5.OSA5_1"]
    assert len(passing) == 2 + 8 + 2


def test_a_pooling_window_may_hang_over_the_edge() -> None:
    """Four rows become two, for which the second window lacks a row; five columns fit exactly."""
    pool = VoVNet99(4).stage3[0]
    numbers = torch.arange(20.0).reshape(1, 1, 4, 5)

    assert pool(numbers).tolist() == [[[[12.0, 14.0], [17.0, 19.0]]]]
    assert pool(torch.zeros(1, 1, 6, 7)).shape == (1, 1, 3, 3)


def test_stages_three_to_five_begin_with_a_pool_and_stage_two_does_not() -> None:
    model = VoVNet99(4)
    stages = (model.stage2, model.stage3, model.stage4, model.stage5)

    assert [isinstance(stage[0], nn.MaxPool2d) for stage in stages] == [False, True, True, True]
    assert sum(isinstance(module, nn.MaxPool2d) for module in model.modules()) == 3


def test_the_gate_is_a_ramp_from_minus_three_to_three() -> None:
    gate = ChannelGate(5).requires_grad_(False)
    gate.fc.weight.zero_()
    gate.fc.bias.copy_(torch.tensor([-4.0, -3.0, 0.0, 1.5, 9.0]))

    factors = gate(torch.ones(1, 5, 2, 3))[0, :, 1, 2]

    assert factors.tolist() == [0.0, 0.0, 0.5, 0.75, 1.0]


def test_the_gate_sees_the_means_of_all_channels_of_its_own_image() -> None:
    gate = ChannelGate(2).requires_grad_(False)
    gate.fc.weight.copy_(torch.tensor([[0.0, 1.0], [0.0, 0.0]]).reshape(2, 2, 1, 1))
    gate.fc.bias.zero_()
    features = torch.ones(3, 2, 1, 2)
    features[1, 1] = torch.tensor([[0.0, -3.0]])  # mean -1.5, so the ramp gives a quarter

    assert gate(features)[:, 0, 0, 0].tolist() == pytest.approx([4 / 6, 0.25, 4 / 6])


@pytest.mark.parametrize("bad", [-2, 0, 7])
def test_a_stem_that_leaves_half_channels_is_refused(bad: int) -> None:
    with pytest.raises(ConfigError, match=rf"base_channels {bad} of vovnet99.*e\.g\. 8 or 64"):
        VoVNet99(bad)


@pytest.mark.parametrize("base_channels", [8, 64])
def test_seeded_weights_keep_every_stage_of_order_one_and_every_gate_ajar(
    base_channels: int,
) -> None:
    frozen = FrozenBackbones(
        replace(camera_vov_1600x640(), camera=branch(base_channels), lidar=None)
    )
    seed_weights(frozen, 0)
    model = frozen.img_backbone
    stages: list[Tensor] = []
    gates: list[Tensor] = []
    for stage in model.children():
        stage.register_forward_hook(lambda _, __, output: stages.append(output))
    for gate in (module for module in model.modules() if isinstance(module, ChannelGate)):
        gate.fc.register_forward_hook(lambda _, __, output: gates.append(output))

    with torch.inference_mode():
        maps = model(images(1))

    assert all(values.isfinite().all() for values in maps)
    low, high = ORDER_ONE
    sizes = [output.square().mean().sqrt().item() for output in stages]
    assert all(low < size < high for size in sizes), sizes
    assert len(gates) == 1 + 3 + 9 + 3
    ajar = [(logits.abs() < 3).float().mean().item() for logits in gates]
    assert min(ajar) > 0.5, ajar
