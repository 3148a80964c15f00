"""What a detector is made of: frozen dataclasses whose derived numbers are properties.

A fact is written once: range, voxel size and stride are fields; grid size, cells and the shapes of
the feature maps follow from them.
"""

from dataclasses import dataclass
from typing import Literal

from shared.config.classes import CAMERAS
from shared.config.head_config import HeadConfig
from shared.errors import ConfigError

Backbone = Literal["resnet50", "vovnet99"]

CAMERA_STRIDES = (16, 32)
LIDAR_STRIDES = (8, 16)
MAX_SWEEPS = 10  # Upstream: `max_sweeps` of mmdet3d's converter; no official config merges more.

# Channels at stride 16 and 32, in widths of the stem.
BACKBONE_GROWTH: dict[Backbone, tuple[int, int]] = {"resnet50": (16, 32), "vovnet99": (12, 16)}


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureMap:
    """A map that the frozen part produces for one sample.

    Args:
        name: path of its array in the store, e.g. "camera/stride16".
        dims: one letter per axis: V cameras, C channels, H W rows and columns, Y X BEV rows and
            columns.
        shape: size of each axis in `dims`.
    """

    name: str
    dims: str
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class CameraBranch:
    """From a raw camera image to the image backbone's maps at stride 16 and 32.

    Args:
        backbone: architecture; `resnet50` is mmdet's ResNet with bottleneck blocks, `vovnet99` is
            VoVNet V-99-eSE.
        base_channels: width of the stem; 64 in both published networks.
        height_px, width_px: size of the network's input.
        raw_height_px, raw_width_px: size of the JPEG.
        resize_lim: official training range of the resize factor, for the augmented variants.
        mean_bgr, std_bgr: normalisation of 0..255 pixels, BGR order.
    """

    backbone: Backbone
    base_channels: int
    height_px: int
    width_px: int
    raw_height_px: int = 900
    raw_width_px: int = 1600
    resize_lim: tuple[float, float]
    mean_bgr: tuple[float, float, float] = (103.530, 116.280, 123.675)
    std_bgr: tuple[float, float, float] = (57.375, 57.120, 58.395)

    def __post_init__(self) -> None:
        coarsest = max(CAMERA_STRIDES)
        if self.height_px % coarsest or self.width_px % coarsest:
            raise ConfigError(
                f"image size {self.height_px} x {self.width_px} px is no multiple of {coarsest}, "
                "the coarsest stride; pick a size that is (official CMT pads to it)"
            )

    @property
    def channels(self) -> tuple[int, int]:
        """Channels at stride 16 and 32."""
        fine, coarse = BACKBONE_GROWTH[self.backbone]
        return fine * self.base_channels, coarse * self.base_channels

    @property
    def maps(self) -> tuple[FeatureMap, ...]:
        """The two perspective maps of one sample."""
        return tuple(
            FeatureMap(
                name=f"camera/stride{stride}",
                dims="VCHW",
                shape=(len(CAMERAS), channels, self.height_px // stride, self.width_px // stride),
            )
            for stride, channels in zip(CAMERA_STRIDES, self.channels, strict=True)
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PointGrid:
    """The space a detector looks at, its voxels and its BEV cells.

    Args:
        point_range_m: (x_min, y_min, z_min, x_max, y_max, z_max), LiDAR frame; queries and box
            centres are fractions of it, also without LiDAR.
        voxel_m: (x, y, z) edges of a voxel.
        sparse_shape: (z, y, x) voxels the sparse encoder is told to keep.
        stride: voxels per BEV cell.

    Upstream: the r50 config says 1,024 voxels for a range that holds 1,080; what lies beyond (x or
    y >= 48.4 m) is lost. `range_voxels` is what the voxeliser produces, `sparse_shape` what the
    encoder gets (`inside_sparse_shape` of stage 1), `bev_cells` what the head sees. Pretrained
    weights have learnt it; docs/fidelity.md has the details.
    """

    point_range_m: tuple[float, float, float, float, float, float]
    voxel_m: tuple[float, float, float]
    sparse_shape: tuple[int, int, int]
    stride: int = 8

    def __post_init__(self) -> None:
        _, rows, columns = self.sparse_shape
        if rows != columns:
            raise ConfigError(
                f"sparse_shape {self.sparse_shape} is {rows} x {columns} voxels in y and x; "
                "CMT's BEV positions are only right on a square grid"
            )
        if rows % (2 * self.stride):
            raise ConfigError(
                f"{rows} voxels per side are {rows / self.stride:g} BEV cells of {self.stride} "
                "voxels; the coarse BEV map has half as many, so pick an even number of cells"
            )

    @property
    def range_voxels(self) -> tuple[int, int, int]:
        """(z, y, x) voxels in the point range."""
        low, high = self.point_range_m[:3], self.point_range_m[3:]
        sides = [round((b - a) / v) for a, b, v in zip(low, high, self.voxel_m, strict=True)]
        return sides[2], sides[1], sides[0]

    @property
    def bev_cells(self) -> int:
        """BEV cells along a side of the grid."""
        return self.sparse_shape[1] // self.stride

    @property
    def bev_cell_m(self) -> float:
        """Side of a BEV cell in metres."""
        return self.voxel_m[0] * self.stride


@dataclass(frozen=True, kw_only=True, slots=True)
class LidarBranch:
    """From raw sweeps to SECOND's two BEV maps.

    Args:
        sweeps: previous sweeps merged into the keyframe, at most `MAX_SWEEPS`.
        drop_close_points: leave out sweep points within 1 m of the sensor in x and in y (returns
            of the ego vehicle); no official CMT config does.
        pad_without_sweeps: repeat a keyframe that has no sweeps `sweeps` times; no official CMT
            config does.
        max_points_per_voxel, max_voxels: limits of the voxeliser (test setting; augmented variants
            have the lower training limit of `Augmentation`).
        encoder_channels: SparseEncoder's stages; the last number of all but the last stage is the
            output of a strided convolution.
        encoder_out_channels: channels of the sparse encoder per height slice; BEV has two slices.
        second_channels, second_layers: SECOND's two stages.

    Raises:
        ConfigError: if samples are not read with so many sweeps.
    """

    sweeps: int = 10
    drop_close_points: bool = False
    pad_without_sweeps: bool = False
    max_points_per_voxel: int = 10
    max_voxels: int = 160_000
    encoder_channels: tuple[tuple[int, ...], ...]
    encoder_out_channels: int
    second_channels: tuple[int, int]
    second_layers: tuple[int, int]

    def __post_init__(self) -> None:
        if not 0 <= self.sweeps <= MAX_SWEEPS:
            raise ConfigError(
                f"{self.sweeps} sweeps are to be merged into a keyframe, expected 0 to "
                f"{MAX_SWEEPS}: the nuScenes tables are read with so many, as mmdet3d lists them "
                f"in info files; ask for no more than {MAX_SWEEPS}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """A complete detector: what stage 1 runs and what stage 2 trains.

    Args:
        name: for people.
        grid: the space that all its parts share.
        camera, lidar: the branches; a detector of one sensor has None for the other.
        head: everything after the backbones.
    """

    name: str
    grid: PointGrid
    camera: CameraBranch | None
    lidar: LidarBranch | None
    head: HeadConfig

    def __post_init__(self) -> None:
        if self.camera is None and self.lidar is None:
            raise ConfigError(f"preset {self.name} has neither a camera nor a LiDAR branch")

    @property
    def camera_maps(self) -> tuple[FeatureMap, ...]:
        """The two perspective maps of one sample, or none without cameras."""
        return () if self.camera is None else self.camera.maps

    @property
    def lidar_maps(self) -> tuple[FeatureMap, ...]:
        """The two BEV maps of one sample, or none without LiDAR."""
        if self.lidar is None:
            return ()
        finest = LIDAR_STRIDES[0]
        return tuple(
            FeatureMap(
                name=f"lidar/stride{stride}",
                dims="CYX",
                shape=(channels, *[self.grid.bev_cells * finest // stride] * 2),
            )
            for stride, channels in zip(LIDAR_STRIDES, self.lidar.second_channels, strict=True)
        )

    @property
    def maps(self) -> tuple[FeatureMap, ...]:
        """Every feature map of one sample, cameras first."""
        return (*self.camera_maps, *self.lidar_maps)
