"""The frozen part of CMT: from images and voxels to the maps a store holds.

B samples, V views.
"""

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from shared.checkpoint.checkpoint_table import FROZEN_PARTS
from shared.config.cut import BACKBONE_CUT, Cut
from shared.config.preset import FeatureMap, Preset
from shared.digests import state_digest
from shared.errors import FrozenError
from shared.model.detector import build_bev_neck, build_camera_neck
from shared.model.head import conv_norm_relu
from shared.process.memory.without_collection import without_collection
from stage1_extract.preprocessing.voxels import Voxels


class FrozenBackbones(nn.Module):
    """The image and point backbones and whatever else precedes the cut, always in eval mode.

    Args:
        preset: the detector; its camera and LiDAR branches are built here. The modules of a branch
            that it lacks are None.
        cut: where the frozen part ends. Modules beyond the backbones have their official names too.
    """

    def __init__(self, preset: Preset, cut: Cut = BACKBONE_CUT) -> None:
        super().__init__()
        self.preset, self.cut = preset, cut
        self._stream: torch.cuda.Stream | None = None
        camera, lidar = preset.camera, preset.lidar
        self._build_backbones()
        self.img_neck = self.pts_neck = self.pts_bbox_head = None
        if camera is not None and cut.camera != "backbone":
            self.img_neck = build_camera_neck(camera, preset.head)
        if lidar is not None and cut.lidar != "backbone":
            self.pts_neck = build_bev_neck(lidar, preset.head)
        if lidar is not None and cut.lidar == "memory":
            source = sum(preset.head.bev_neck_channels)
            shared_conv = conv_norm_relu(source, preset.head.width)
            self.pts_bbox_head = nn.ModuleDict({"shared_conv": shared_conv})
        self.requires_grad_(False)
        self.train(False)

    def _build_backbones(self) -> None:
        """Build the backbones; only now mmdet, mmdet3d and spconv are imported, which is slow."""
        camera, lidar = self.preset.camera, self.preset.lidar
        self.img_backbone = self.pts_middle_encoder = self.pts_backbone = None
        if camera is not None:
            with without_collection():
                from stage1_extract.backbones.camera_backbone import build_camera_backbone
            self.img_backbone = build_camera_backbone(camera)
        if lidar is not None:
            with without_collection():
                from stage1_extract.backbones import lidar_backbone
            self.pts_middle_encoder = lidar_backbone.build_sparse_encoder(self.preset.grid, lidar)
            self.pts_backbone = lidar_backbone.build_second(lidar)

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the existing modules that have weights; the voxel encoder has none."""
        names = tuple(dict(self.named_modules()))
        return tuple(name for name in (*FROZEN_PARTS, *self.cut.frozen_parts) if name in names)

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
            from stage1_extract.backbones.lidar_backbone import use_native_convolutions

            use_native_convolutions(self.pts_middle_encoder)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def precision(self) -> str:
        """The precision policy of the weights' device, in the words of the store's identity."""
        if self.device.type == "cpu":
            return "float32"
        return "float16 autocast, voxels and sparse encoder float32"

    def digests(self) -> dict[str, str]:
        """Digest all parameters and buffers, per frozen module: the proof that nothing changed."""
        return {name: state_digest(self.get_submodule(name).state_dict()) for name in self.parts}

    @torch.inference_mode()
    def forward(self, images: Tensor | None, voxels: Voxels | None) -> dict[str, Tensor]:
        """Turn images and voxels into maps, by the branches that exist.

        On a GPU the LiDAR branch has a stream of its own. spconv waits for the GPU, holding
        Python's lock; this way it waits neither for the images of this batch nor for those of the
        batch before, and both branches compute side by side.

        Args:
            images: (B, V, 3, height, width) float32, normalised, BGR, on any device; None without
                cameras, or to leave their maps out.
            voxels: of the batch, from `batch_voxels`, on any device; None without LiDAR, or to
                leave it out.

        Returns:
            Maps by `FeatureMap.name`: camera (B, V, C, H, W), LiDAR (B, C, Y, X); float32, or what
            autocast makes of them on a GPU.

        Source:
            CMT's custom_fp16: image branch and SECOND in float16, voxel and sparse encoder float32.
        """
        device = self.device
        of_lidar = dict[str, Tensor]()
        if voxels is not None:
            with self._lidar_stream(wait=voxels.means.device.type != "cpu"):
                of_lidar = self.maps(None, voxels.to(device))
        of_camera = dict[str, Tensor]()
        if images is not None:
            of_camera = self.maps(images.to(device, non_blocking=True), None)
        self._join_lidar_stream(of_lidar)
        return of_camera | of_lidar

    def maps(self, images: Tensor | None, voxels: Voxels | None) -> dict[str, Tensor]:
        """Do what `forward` does, in the current stream and outside of inference mode.

        Images and voxels are on the device of the weights; gradients may flow.
        """
        of_lidar = None if voxels is None else self.lidar_maps(voxels)
        maps, specs = list[Tensor](), list[FeatureMap]()
        if images is not None:
            samples_and_views = images.shape[:2]
            maps += [
                values.view(*samples_and_views, *values.shape[1:])  # (B, V, C, H, W)
                for values in self.camera_maps(images)
            ]
            specs += self.cut.camera_maps(self.preset)
        if of_lidar is not None:
            maps += of_lidar
            specs += self.cut.lidar_maps(self.preset)
        return {spec.name: values for spec, values in zip(specs, maps, strict=True)}

    def camera_maps(self, images: Tensor) -> Sequence[Tensor]:
        """Return (B * V, C, H, W) per map of (B, V, 3, height, width)."""
        assert self.img_backbone is not None
        with self._half():
            maps: Sequence[Tensor] = self.img_backbone(images.flatten(0, 1))
            return maps if self.img_neck is None else self.img_neck(maps)[:1]

    def lidar_maps(self, voxels: Voxels) -> Sequence[Tensor]:
        """Return (B, C, Y, X) per map."""
        assert self.pts_backbone is not None
        bev = self.encode_voxels(voxels)
        with self._half():
            maps: Sequence[Tensor] = self.pts_backbone(bev)
            if self.pts_neck is not None:
                maps = [self.pts_neck(maps)]
        if self.pts_bbox_head is not None:
            maps = [self.pts_bbox_head["shared_conv"](maps[0].float())]
        return maps

    def encode_voxels(self, voxels: Voxels) -> Tensor:
        """Return the sparse encoder's dense BEV map, (B, C, Y, X) float32.

        The mean of a voxel's points, CMT's voxel encoder, is taken where points are loaded.
        """
        assert self.pts_middle_encoder is not None
        assert self.preset.lidar is not None
        means, coordinates = voxels.means, voxels.coordinates
        # spconv reads memory row by row and ignores strides.
        assert coordinates.is_contiguous()
        if not len(means):  # spconv needs at least one voxel in a batch
            cells, height_slices = self.preset.grid.bev_cells, 2
            channels = height_slices * self.preset.lidar.encoder_out_channels
            return means.new_zeros(voxels.samples, channels, cells, cells)
        with warnings.catch_warnings():
            # spconv 2.3.8 indexes with a list; test_sparse_encoder_dense.py compares the resulting
            # map with dense convolution.
            warnings.filterwarnings("ignore", message="Using a non-tuple sequence")
            bev: Tensor = self.pts_middle_encoder(means, coordinates, voxels.samples)
        return bev

    def _lidar_stream(self, *, wait: bool) -> AbstractContextManager[object]:
        """Return the LiDAR branch's stream as a context; none on a CPU.

        Args:
            wait: for what is queued in the current stream, which makes the voxels.
        """
        if self.device.type == "cpu":
            return nullcontext()
        current = torch.cuda.current_stream(self.device)
        if self._stream is None:
            self._stream = torch.cuda.Stream(self.device, priority=-1)  # type: ignore[no-untyped-call]
            wait = True  # the weights may still be on their way
        if wait:
            self._stream.wait_stream(current)
        return torch.cuda.stream(self._stream)

    def _join_lidar_stream(self, maps: dict[str, Tensor]) -> None:
        """Let the current stream wait for these maps of the LiDAR branch."""
        if self._stream is None or not maps:
            return
        current = torch.cuda.current_stream(self.device)
        current.wait_stream(self._stream)
        for values in maps.values():
            values.record_stream(current)

    def _half(self) -> torch.autocast:
        return torch.autocast("cuda", torch.float16, enabled=self.device.type == "cuda")
