"""The frozen image backbone of a preset: mmdet's ResNet-50, or VoVNet-99, which mmdet lacks."""

from mmdet.models.backbones import ResNet
from torch import nn

from shared.config.preset import CameraBranch
from stage1_extract.backbones.vovnet import VoVNet99


def build_camera_backbone(camera: CameraBranch) -> nn.Module:
    """Build the image backbone of a preset, without loading weights.

    Returns:
        A module that maps (N, 3, height, width) normalised BGR images to a tuple of two maps, at
        stride 16 and 32, of `camera.channels` channels.

    Source:
        CMT, `img_backbone` in cmt_voxel0100_r50_800x320_cbgs.py and
        cmt_voxel0075_vov_1600x640_cbgs.py. `frozen_stages` and `norm_eval` are not needed:
        `FrozenBackbones` freezes every parameter and buffer.
    """
    match camera.backbone:
        case "resnet50":
            return _build_resnet50(camera.base_channels)
        case "vovnet99":
            return VoVNet99(camera.base_channels)


def _build_resnet50(base_channels: int) -> nn.Module:
    backbone: nn.Module = ResNet(
        depth=50,
        base_channels=base_channels,
        stem_channels=base_channels,
        num_stages=4,
        out_indices=(2, 3),
        norm_cfg={"type": "BN", "requires_grad": True},
        style="pytorch",
    )
    return backbone
