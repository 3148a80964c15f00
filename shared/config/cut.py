"""Where the frozen part of the detector ends: what a store holds, and what training cannot change.

    backbone    the backbones' maps, before both necks: the necks can be trained
    neck        after the necks: one camera map (P4) and one BEV map
    memory      also after `shared_conv`: what the decoder looks at; for cameras the same as neck

A later cut is smaller on disk and faster to read. Each sensor may have its own cut.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from shared.config.preset import CAMERA_STRIDES, LIDAR_STRIDES, FeatureMap, Preset
from shared.errors import ConfigError

CameraCut = Literal["backbone", "neck"]
LidarCut = Literal["backbone", "neck", "memory"]

CAMERA_CUTS: dict[str, CameraCut] = {"backbone": "backbone", "neck": "neck", "memory": "neck"}
LIDAR_CUTS: dict[str, LidarCut] = {name: name for name in get_args(LidarCut)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """The cut of each sensor.

    Args:
        camera: there is nothing between neck and memory, so "memory" means "neck" here.
        lidar: any of the three.
    """

    camera: CameraCut = "backbone"
    lidar: LidarCut = "backbone"

    @property
    def frozen_parts(self) -> tuple[str, ...]:
        """Parts of the trainable detector that lie before the cut: prefixes of state-dict keys."""
        return (
            *(("img_neck",) if self.camera != "backbone" else ()),
            *(("pts_neck",) if self.lidar != "backbone" else ()),
            *(("pts_bbox_head.shared_conv",) if self.lidar == "memory" else ()),
        )

    def camera_maps(self, preset: Preset) -> tuple[FeatureMap, ...]:
        """Return the perspective maps of one sample."""
        if self.camera == "backbone" or preset.camera is None:
            return preset.camera_maps
        finest = preset.camera_maps[0]
        views, _, rows, columns = finest.shape
        name = f"camera/neck_stride{CAMERA_STRIDES[0]}"
        shape = (views, preset.head.width, rows, columns)
        return (FeatureMap(name=name, dims=finest.dims, shape=shape),)

    def lidar_maps(self, preset: Preset) -> tuple[FeatureMap, ...]:
        """Return the BEV maps of one sample."""
        if self.lidar == "backbone" or preset.lidar is None:
            return preset.lidar_maps
        finest, head = preset.lidar_maps[0], preset.head
        channels = head.width if self.lidar == "memory" else sum(head.bev_neck_channels)
        name = f"lidar/{self.lidar}_stride{LIDAR_STRIDES[0]}"
        return (FeatureMap(name=name, dims=finest.dims, shape=(channels, *finest.shape[1:])),)

    def maps(self, preset: Preset) -> tuple[FeatureMap, ...]:
        """Return every map of one sample, cameras first."""
        return (*self.camera_maps(preset), *self.lidar_maps(preset))

    def __str__(self) -> str:
        """Return the shortest text that `parse_cut` accepts."""
        if self.camera == CAMERA_CUTS[self.lidar]:
            return self.lidar
        return f"camera={self.camera},lidar={self.lidar}"


BACKBONE_CUT = Cut()


def parse_cut(text: str) -> Cut:
    """Read "neck" (both sensors) or "camera=neck,lidar=memory" (an unnamed sensor is "backbone").

    Raises:
        ConfigError: if it is neither.
    """
    if "=" not in text:
        text = f"camera={text},lidar={text}"
    named = dict(setting.partition("=")[::2] for setting in text.split(","))
    camera, lidar = (named.pop(sensor, "backbone") for sensor in ("camera", "lidar"))
    if named or camera not in CAMERA_CUTS or lidar not in LIDAR_CUTS:
        raise ConfigError(
            f"unknown cut {text!r}; expected {', '.join(LIDAR_CUTS)}, or a cut per sensor as in "
            "camera=neck,lidar=memory"
        )
    return Cut(camera=CAMERA_CUTS[camera], lidar=LIDAR_CUTS[lidar])
