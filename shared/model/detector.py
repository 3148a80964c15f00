"""The complete trainable detector: necks and a head on top of the frozen backbones' maps.

    camera maps -> img_neck -> P4 ---------.
                                           pts_bbox_head -> boxes
    LiDAR maps  -> pts_neck -> one BEV map -'

The names of the three parts, and of everything inside, are those of the official checkpoints. A
detector of one sensor lacks the other's neck.
B samples, V views, C channels, H W feature rows and columns, Y X BEV rows and columns.

Source: CMT, detectors/cmt.py.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from shared.config.aqr_config import AqrConfig
from shared.config.cut import BACKBONE_CUT, Cut
from shared.config.head_config import HeadConfig
from shared.config.preset import (
    LIDAR_STRIDES,
    CameraBranch,
    FeatureMap,
    LidarBranch,
    PointGrid,
    Preset,
)
from shared.data.batch import Batch
from shared.errors import ConfigError
from shared.model.bev_neck import BevNeck
from shared.model.camera_neck import CameraNeck
from shared.model.decoder import Decoder
from shared.model.denoising import DenoisingQueries
from shared.model.geometry.positions import fractions_to_metres, project
from shared.model.head import CmtHead
from shared.model.outputs import HeadOutputs
from shared.model.task_heads import TaskHeads


@dataclass(frozen=True, kw_only=True, slots=True)
class QueryPlaces:
    """Where the queries of a detector with cameras stand.

    Args:
        references_m: (Q, 3) metres, LiDAR frame.
        pixels: (B, V, Q, 2) u and v in the network's input; NaN where a camera does not see it.
    """

    references_m: Tensor
    pixels: Tensor


class CmtDetector(nn.Module):
    """Everything after the backbones.

    Args:
        preset, cut: say which maps a batch must hold.
        img_neck, pts_neck: built for that preset; None for a sensor it does not have, or where the
            neck lies before the cut.
        pts_bbox_head: built for that preset; without `shared_conv` where that lies before the cut.
    """

    def __init__(
        self,
        preset: Preset,
        cut: Cut,
        *,
        img_neck: CameraNeck | None,
        pts_neck: BevNeck | None,
        pts_bbox_head: CmtHead,
    ) -> None:
        super().__init__()
        self.preset, self.cut = preset, cut
        self.img_neck = img_neck
        self.pts_neck = pts_neck
        self.pts_bbox_head = pts_bbox_head

    def forward(self, batch: Batch, denoising: DenoisingQueries | None = None) -> HeadOutputs:
        """Predict boxes from stored or live features.

        Float16 maps are cast to the precision of the parameters, except under autocast, which
        casts by itself.

        Args:
            batch: maps and cameras; its boxes and labels are not used.
            denoising: see `shared.model.denoising`; None when evaluating.

        Raises:
            ConfigError: if a map is missing or does not have the preset's shape.
        """
        lidar_maps = [self._map(batch, wanted) for wanted in self.cut.lidar_maps(self.preset)]
        camera_maps = [self._map(batch, wanted) for wanted in self.cut.camera_maps(self.preset)]
        bev = self.pts_neck(lidar_maps) if self.pts_neck is not None else _only(lidar_maps)
        camera = _only(camera_maps)  # (B, V, D, H, W)
        if self.img_neck is not None:
            pyramid = self.img_neck([level.flatten(0, 1) for level in camera_maps])
            camera = pyramid[0].unflatten(0, camera_maps[0].shape[:2])  # (B, V, D, H, W)
        outputs: HeadOutputs = self.pts_bbox_head(bev, camera, batch.img_from_lidar, denoising)
        return outputs

    @property
    def aqr(self) -> AqrConfig | None:
        """Settings of adaptive query routing, None for plain CMT."""
        return self.pts_bbox_head.aqr

    @property
    def bias_scale(self) -> Tensor | None:
        """The scalar that turns sensor weights into attention biases, None where AQR has none."""
        generator = self.pts_bbox_head.attention_bias_generator
        return None if generator is None else generator.scale.detach()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.pts_bbox_head.point_range_m.device

    def query_places(self, img_from_lidar: Tensor) -> QueryPlaces:
        """Return where the queries stand before anything is decoded.

        Args:
            img_from_lidar: (B, V, 4, 4) float64 on the detector's device.
        """
        head = self.pts_bbox_head
        references_m = fractions_to_metres(head.reference_points.weight, head.point_range_m)
        cameras = head.geometry(img_from_lidar)
        assert cameras is not None, "a detector without cameras has no pixels"
        pixels, visible = project(references_m.expand(len(img_from_lidar), -1, -1), cameras)
        return QueryPlaces(
            references_m=references_m,
            pixels=pixels[..., :2].masked_fill(~visible.unsqueeze(-1), torch.nan),
        )

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the detector's parts, with which their state-dict keys begin."""
        return tuple(name for name, _ in self.named_children())

    def _map(self, batch: Batch, wanted: FeatureMap) -> Tensor:
        """Return a map of the batch in the precision to compute in."""
        if wanted.name not in batch.maps:
            raise ConfigError(
                f"preset {self.preset.name} reads {wanted.name}, but the batch holds "
                f"{', '.join(batch.maps) or 'no map'}; train from a store made with this preset"
            )
        features = batch.maps[wanted.name]
        if tuple(features.shape[1:]) != wanted.shape:
            raise ConfigError(
                f"{wanted.name}: preset {self.preset.name} makes {wanted.dims} = {wanted.shape}, "
                f"got {tuple(features.shape[1:])}; train from a store made with this preset"
            )
        if torch.is_autocast_enabled(features.device.type):
            return features
        return features.to(self.pts_bbox_head.point_range_m.dtype)


def _only(maps: list[Tensor]) -> Tensor | None:
    """Return a sensor's first map, its only one after the neck; None without the sensor."""
    return maps[0] if maps else None


def build_detector(
    preset: Preset, cut: Cut = BACKBONE_CUT, aqr: AqrConfig | None = None
) -> CmtDetector:
    """Assemble what comes after the cut, with fresh weights from torch's global generator.

    The weights are initialised as the official code does; `torch.manual_seed` before the call makes
    them reproducible (torch's own layers take no generator), and the same with and without AQR.

    Raises:
        ConfigError: if AQR is requested for a detector of one sensor, or with heads that do not
            divide its width.
    """
    camera, lidar, head = preset.camera, preset.lidar, preset.head
    if aqr is not None and (camera is None or lidar is None):
        raise ConfigError(
            f"AQR weighs LiDAR against cameras, but preset {preset.name} has only one of them; "
            "train it with a recipe without AQR, such as `cmt`"
        )
    if aqr is not None and head.width % aqr.heads:
        raise ConfigError(
            f"aqr.heads {aqr.heads} do not divide the width {head.width} of preset {preset.name}; "
            "choose a number that does, such as 4"
        )
    has_shared_conv = lidar is not None and cut.lidar != "memory"
    return CmtDetector(
        preset,
        cut,
        img_neck=build_camera_neck(camera, head)
        if camera is not None and cut.camera == "backbone"
        else None,
        pts_neck=build_bev_neck(lidar, head)
        if lidar is not None and cut.lidar == "backbone"
        else None,
        pts_bbox_head=build_head(
            head,
            bev_channels=sum(head.bev_neck_channels) if has_shared_conv else None,
            image_px=None if camera is None else (camera.height_px, camera.width_px),
            grid=preset.grid,
            aqr=aqr,
        ),
    )


def build_camera_neck(camera: CameraBranch, head: HeadConfig) -> CameraNeck:
    """Build `img_neck`."""
    return CameraNeck(camera.channels, head.width)


def build_bev_neck(lidar: LidarBranch, head: HeadConfig) -> BevNeck:
    """Build `pts_neck`."""
    return BevNeck(
        lidar.second_channels,
        head.bev_neck_channels,
        strides=[stride // LIDAR_STRIDES[0] for stride in LIDAR_STRIDES],
    )


def build_head(
    config: HeadConfig,
    *,
    bev_channels: int | None,
    image_px: tuple[int, int] | None,
    grid: PointGrid,
    aqr: AqrConfig | None = None,
) -> CmtHead:
    """Assemble `pts_bbox_head`; see `CmtHead` for the arguments."""
    return CmtHead(
        bev_channels=bev_channels,
        image_px=image_px,
        width=config.width,
        queries=config.queries,
        depths=config.depths,
        point_range_m=grid.point_range_m,
        bev_cell_m=grid.bev_cell_m,
        aqr=aqr,
        decoder=Decoder(
            layers=config.layers,
            width=config.width,
            heads=config.heads,
            hidden=config.ffn_width,
            dropout=config.dropout,
        ),
        task_heads=TaskHeads(
            layers=config.layers,
            width=config.width,
            hidden=config.task_width,
            classes=config.classes,
            kernel=config.task_kernel,
        ),
    )
