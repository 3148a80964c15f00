"""Both necks give the numbers of the official code."""

from typing import Any

import torch
from torch import Tensor, nn

from shared.model.bev_neck import BevNeck
from shared.model.camera_neck import CameraNeck

NECK = 1e-6  # of the largest value: two convolutions in float32


def test_camera_neck(neck_golden) -> None:
    cfg = neck_golden.document["cfg"]["cpfpn"]
    neck = _loaded(CameraNeck(cfg["in_channels"], cfg["out_channels"]), neck_golden, "cpfpn")
    for inputs, expected in _calls(neck_golden, "cpfpn"):
        for ours, official in zip(neck(inputs), expected, strict=True):
            torch.testing.assert_close(
                ours, official, rtol=0, atol=NECK * official.abs().max().item()
            )


def test_bev_neck(neck_golden) -> None:
    cfg: dict[str, Any] = neck_golden.document["cfg"]["secondfpn"]
    neck = BevNeck(cfg["in_channels"], cfg["out_channels"], cfg["upsample_strides"])
    for norm in [layer for layer in neck.modules() if isinstance(layer, nn.BatchNorm2d)]:
        assert (norm.eps, norm.momentum) == (cfg["norm_cfg"]["eps"], cfg["norm_cfg"]["momentum"])
    _loaded(neck, neck_golden, "secondfpn")
    for inputs, (official,) in _calls(neck_golden, "secondfpn"):
        torch.testing.assert_close(
            neck(inputs), official, rtol=0, atol=NECK * official.abs().max().item()
        )


def _loaded(neck: nn.Module, golden, name: str) -> nn.Module:
    prefix = golden.document["state_dict_prefix"][name]
    neck.load_state_dict(golden.state(f"{name}/sd/{prefix}"), strict=True)
    return neck.eval().requires_grad_(False)


def _calls(golden, name: str) -> list[tuple[list[Tensor], list[Tensor]]]:
    """Return the inputs and outputs of every stored call, a tensor per level."""
    count = len({key.split("/")[1] for key in golden.arrays if key.startswith(f"{name}/in")})
    assert count
    return [
        (
            list(golden.state(f"{name}/in{call}/").values()),
            list(golden.state(f"{name}/out{call}/").values()),
        )
        for call in range(count)
    ]
