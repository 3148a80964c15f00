"""The frozen image backbone: mmdet's module, built from its registry, nothing of ours inside."""

from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from torch import nn

from shared.config import CameraBranch


def build_camera_backbone(camera: CameraBranch) -> nn.Module:
    """Build the image backbone of a preset, weights not loaded.

    Returns:
        A module that maps (N, 3, height, width) normalised BGR images to a tuple of two maps, at
        stride 16 and 32.

    Source:
        CMT, cmt_voxel0100_r50_800x320_cbgs.py `img_backbone`. `frozen_stages` and `norm_eval` are
        not needed: `FrozenBackbones` freezes every parameter and buffer.
    """
    register_all_modules(init_default_scope=False)
    backbone: nn.Module = MODELS.build(
        {
            "type": "ResNet",
            "depth": 50,
            "base_channels": camera.base_channels,
            "stem_channels": camera.base_channels,
            "num_stages": 4,
            "out_indices": (2, 3),
            "norm_cfg": {"type": "BN", "requires_grad": True},
            "style": "pytorch",
        }
    )
    return backbone
