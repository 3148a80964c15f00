"""The frozen part of CMT: from images and voxels to the maps a store holds, and the proof it stays.

B samples, V views.
"""

import warnings

import torch
from torch import Tensor, nn

from shared.checkpoint_table import FROZEN_PARTS
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
from stage1_extract.voxels import Voxels, inside_sparse_shape


class FrozenBackbones(nn.Module):
    """Image and point backbones, in eval mode for good, without gradients.

    Args:
        preset: the detector; its camera and LiDAR branches are built here. A module of a branch it
            does not have is None.
    """

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        self.preset = preset
        camera, lidar = preset.camera, preset.lidar
        self.img_backbone = None if camera is None else build_camera_backbone(camera)
        self.pts_voxel_encoder = None if lidar is None else build_voxel_encoder()
        self.pts_middle_encoder = (
            None if lidar is None else build_sparse_encoder(preset.grid, lidar)
        )
        self.pts_backbone = None if lidar is None else build_second(lidar)
        self.requires_grad_(False)
        self.train(False)

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the modules there are that have weights; the voxel encoder has none."""
        return tuple(name for name in FROZEN_PARTS if getattr(self, name) is not None)

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
        if device.type == "cpu" and self.pts_middle_encoder is not None:
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
        return {name: state_digest(getattr(self, name).state_dict()) for name in self.parts}

    @torch.inference_mode()
    def forward(self, images: Tensor | None, voxels: Voxels | None) -> dict[str, Tensor]:
        """Run the branches there are.

        Args:
            images: (B, V, 3, height, width) float32, normalised, BGR; None without cameras.
            voxels: of the batch, from `batch_voxels`; None without LiDAR.

        Returns:
            Maps by `FeatureMap.name`: camera (B, V, C, H, W), LiDAR (B, C, Y, X); float32, or what
            autocast made of them on a GPU.

        Source:
            CMT's custom_fp16: image branch and SECOND in float16, voxel and sparse encoder float32.
        """
        maps: list[Tensor] = []
        if self.img_backbone is not None:
            assert images is not None
            with self._half():
                camera = self.img_backbone(images.flatten(0, 1))
            maps += [one.unflatten(0, images.shape[:2]) for one in camera]
        if self.pts_backbone is not None:
            assert voxels is not None
            bev = self.encode_voxels(voxels)
            with self._half():
                maps += self.pts_backbone(bev)
        return {spec.name: values for spec, values in zip(self.preset.maps, maps, strict=True)}

    def encode_voxels(self, voxels: Voxels) -> Tensor:
        """Return the sparse encoder's dense BEV map, (B, C, Y, X) float32."""
        assert self.pts_voxel_encoder is not None
        assert self.pts_middle_encoder is not None
        assert self.preset.lidar is not None
        seen = inside_sparse_shape(voxels, self.preset.grid)
        if not len(seen.counts):  # spconv wants at least one voxel in a batch
            cells, height_slices = self.preset.grid.bev_cells, 2
            channels = height_slices * self.preset.lidar.encoder_out_channels
            return seen.points.new_zeros(seen.samples, channels, cells, cells)
        means = self.pts_voxel_encoder(seen.points, seen.counts, seen.coordinates)
        with warnings.catch_warnings():
            # spconv 2.3.8 indexes with a list; test_sparse_encoder_dense.py compares the map it
            # makes that way with dense convolution.
            warnings.filterwarnings("ignore", message="Using a non-tuple sequence")
            bev: Tensor = self.pts_middle_encoder(means, seen.coordinates, seen.samples)
        return bev

    def _half(self) -> torch.autocast:
        return torch.autocast("cuda", torch.float16, enabled=self.device.type == "cuda")
