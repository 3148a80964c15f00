"""The frozen part of CMT: from images and voxels to the maps a store holds, and the proof it stays.

B samples, V views.
"""

import warnings

import torch
from torch import Tensor, nn

from shared.config import Preset
from shared.digests import state_digest
from shared.errors import FrozenError
from stage1_extract.camera_backbone import build_camera_backbone
from stage1_extract.lidar_backbone import (
    build_second,
    build_sparse_encoder,
    build_voxel_encoder,
    use_native_convolutions,
)
from stage1_extract.voxels import Voxels

# Names of the frozen modules, as in an official checkpoint; the voxel encoder has no weights.
FROZEN_MODULES = ("img_backbone", "pts_middle_encoder", "pts_backbone")


class FrozenBackbones(nn.Module):
    """Image and point backbones, in eval mode for good, without gradients.

    Args:
        preset: the detector; its camera and LiDAR branches are built here.
    """

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        self.preset = preset
        self.img_backbone = build_camera_backbone(preset.camera)
        self.pts_voxel_encoder = build_voxel_encoder()
        self.pts_middle_encoder = build_sparse_encoder(preset.lidar)
        self.pts_backbone = build_second(preset.lidar)
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> "FrozenBackbones":
        """Stay in eval mode: BatchNorm in train mode would move its running statistics.

        Raises:
            FrozenError: if train mode is asked for.
        """
        if mode:
            raise FrozenError("the frozen backbones stay in eval mode; train what comes after them")
        # mmdet's ResNet.train returns None, so nothing here may chain on it.
        for module in self.modules():
            module.training = False
        return self

    def to_device(self, device: torch.device) -> None:
        """Move to `device` and choose the sparse algorithm that runs there."""
        self.to(device)
        if device.type == "cpu":
            use_native_convolutions(self.pts_middle_encoder)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def precision(self) -> str:
        """The precision policy of the device the weights are on, as the identity states it."""
        compute = (
            "float32"
            if self.device.type == "cpu"
            else "float16 autocast, voxels and sparse encoder float32"
        )
        return f"compute {compute}; stored float16"

    def digests(self) -> dict[str, str]:
        """Digest every parameter and buffer, per frozen module."""
        return {name: state_digest(getattr(self, name).state_dict()) for name in FROZEN_MODULES}

    @torch.inference_mode()
    def forward(self, images: Tensor, voxels: Voxels) -> dict[str, Tensor]:
        """Run both branches.

        Args:
            images: (B, V, 3, height, width) float32, normalised, BGR.
            voxels: of the batch, from `batch_voxels`.

        Returns:
            Maps by `FeatureMap.name`: camera (B, V, C, H, W), LiDAR (B, C, Y, X); float32, or what
            autocast made of them on a GPU.

        Source:
            CMT's custom_fp16: image branch and SECOND in float16, voxel and sparse encoder float32.
        """
        samples, views = images.shape[:2]
        half = images.device.type == "cuda"
        with torch.autocast("cuda", torch.float16, enabled=half):
            camera = self.img_backbone(images.flatten(0, 1))
        voxel_means = self.pts_voxel_encoder(voxels.points, voxels.counts, voxels.coordinates)
        with warnings.catch_warnings():
            # spconv 2.3.8 indexes with a list; tests/stage1_extract/test_frozen.py compares the
            # dense map it makes that way with dense convolution.
            warnings.filterwarnings("ignore", message="Using a non-tuple sequence")
            bev = self.pts_middle_encoder(voxel_means, voxels.coordinates, samples)
        with torch.autocast("cuda", torch.float16, enabled=half):
            lidar = self.pts_backbone(bev)
        maps = [one.unflatten(0, (samples, views)) for one in camera] + list(lidar)
        return {spec.name: values for spec, values in zip(self.preset.maps, maps, strict=True)}
