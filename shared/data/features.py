"""What joins the stages: the features and geometry of a frame, and where they come from.

`cache.reader.CachedFeatures` and `stage1_extract.backbones.live.LiveFeatures` are both a
`FeatureSource`; parity means that they return the same. All arrays are NumPy; `shared.data.batch`
makes tensors.

n boxes of a frame, V views (cameras, in the order of `shared.config.classes.CAMERAS`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shared.config.cut import Cut
from shared.config.preset import Preset

NO_CAMERAS: NDArray[np.float64] = np.zeros((0, 4, 4))


@dataclass(frozen=True, kw_only=True, slots=True)
class Annotations:
    """The ground truth of a frame, unfiltered.

    Args:
        boxes_lidar: (n, 9) float32, x y z (centre of the box), length, width, height, yaw, vx, vy;
            metres, radians (counter-clockwise from +x), metres per second; LiDAR frame. The
            velocity is NaN where nuScenes has none.
        labels: (n,) int64, index into `CLASS_NAMES`, or `OTHER_CLASS`.
        lidar_points, radar_points: (n,) int64, points inside the box, as nuScenes counts them.
    """

    boxes_lidar: NDArray[np.float32]
    labels: NDArray[np.int64]
    lidar_points: NDArray[np.int64]
    radar_points: NDArray[np.int64]


NO_ANNOTATIONS = Annotations(
    boxes_lidar=np.zeros((0, 9), np.float32),
    labels=np.zeros(0, np.int64),
    lidar_points=np.zeros(0, np.int64),
    radar_points=np.zeros(0, np.int64),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """What stage 2 needs of a frame besides its feature maps.

    Args:
        token: nuScenes sample token.
        scene: recording the frame belongs to: the nuScenes log in its file names (info files have
            no scene tokens).
        timestamp_us: time of the LiDAR keyframe, microseconds.
        variant: augmented variant, 0 being the frame as recorded; that of the images may be a
            different one, see `shared.data.combined_variants`.
        img_from_lidar: (V, 4, 4) float64; pixels of the network's input after resize and crop:
            (u * depth, v * depth, depth, 1) = img_from_lidar @ (x, y, z, 1). `NO_CAMERAS` for a
            preset without a camera branch.
        ego_from_lidar: (4, 4) float64, metres.
        global_from_ego: (4, 4) float64, metres, at the time of the LiDAR keyframe.
        annotations: boxes in the LiDAR frame of this variant.
    """

    token: str
    scene: str
    timestamp_us: int
    variant: int
    img_from_lidar: NDArray[np.float64]
    ego_from_lidar: NDArray[np.float64]
    global_from_ego: NDArray[np.float64]
    annotations: Annotations


@dataclass(frozen=True, kw_only=True, slots=True)
class QuantisedMap:
    """A feature map in 8 bit, as a quantised store holds it.

    Args:
        values: (..., H, W) uint8.
        scale: (...) float32, the step between two levels of a plane; 0 if it is constant.
        zero: (...) float32, the value of a plane's level 0.
    """

    values: NDArray[np.uint8]
    scale: NDArray[np.float32]
    zero: NDArray[np.float32]

    def dequantised(self) -> NDArray[np.float32]:
        """Return zero + scale * values, as `shared.data.batch.QuantisedTensor` on a device."""
        expanded: NDArray[np.float32] = self.values * self.scale[..., None, None]
        expanded += self.zero[..., None, None]
        return expanded


MapValues = NDArray[np.floating[Any]] | QuantisedMap


def as_floats(values: MapValues) -> NDArray[np.floating[Any]]:
    """Return a map as numbers to compute with."""
    return values.dequantised() if isinstance(values, QuantisedMap) else values


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A sensor file as it was read.

    Args:
        name: its path below the dataset root, with "/".
        digest: SHA-256 of its bytes, hex, as `sha256sum` prints it.
    """

    name: str
    digest: str


Sources = Mapping[str, tuple[SourceFile, ...]]  # by sensor, "camera" or "lidar", as they were read


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameFeatures:
    """A frame with its feature maps.

    Args:
        frame: geometry and annotations.
        maps: by `FeatureMap.name`; float32 if live; if cached, float16, or 8 bit in a store whose
            codec quantises.
        sources: the files they were computed from; empty if cached, or computed from no file.
    """

    frame: Frame
    maps: Mapping[str, MapValues]
    sources: Sources = field(default_factory=dict)


class FeatureSource(Protocol):
    """Anything that provides the frozen part's features of samples."""

    @property
    def preset(self) -> Preset:
        """The detector the features belong to."""

    @property
    def cut(self) -> Cut:
        """Where the frozen part ends."""

    @property
    def tokens(self) -> tuple[str, ...]:
        """Sample tokens, in a fixed order."""

    def read(
        self, tokens: Sequence[str], variant: int = 0, camera_variant: int | None = None
    ) -> list[FrameFeatures]:
        """Return the features of these samples, in this order.

        Args:
            tokens: of the samples.
            variant: of LiDAR, boxes and poses.
            camera_variant: of the images; None for the same.

        Raises:
            MissingRowError: if a sample is missing (never zeros instead).
        """
