"""The numbers of everything after the backbones, as frozen dataclasses."""

from dataclasses import dataclass

from shared.config.classes import CLASS_NAMES
from shared.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Denoising:
    """CMT's denoising queries: noised ground truth that the decoder must restore.

    Args:
        groups: largest number of copies of the ground truth (`scalar` upstream).
        noise_scale, noise_offset_m: noise is uniform in +-(size / 2 + offset) * scale.
        split: a copy noised further than this (norm of the unit noise) is labelled background.
        weight: factor on the denoising losses.
    """

    groups: int = 10
    noise_scale: float = 1.0
    noise_offset_m: float = 0.0
    split: float = 0.75
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadConfig:
    """Everything after the backbones: necks, decoder, task heads, losses and box coder.

    Args:
        queries, width, heads, layers, ffn_width, dropout: the decoder (Q, D, heads, L).
        bev_neck_channels: outputs of SECONDFPN's two branches.
        depths: points along a camera ray in the image position embedding.
        task_width: hidden channels of every task head.
        task_kernel: neighbouring queries that a task head sees; 1 is each query by itself.
        denoising: denoising queries.
        class_weight, box_weight: of the focal and L1 losses, and of the matching costs alike.
        focal_alpha, focal_gamma: the focal loss and the focal matching cost.
        code_weights: weight of each of the ten box codes.
        max_boxes: boxes kept per sample.
        kept_range_m: decoded centres outside are dropped, (x, y, z) minima then maxima.
    """

    queries: int = 900
    width: int = 256
    heads: int = 8
    layers: int = 6
    ffn_width: int = 1024
    dropout: float = 0.1
    bev_neck_channels: tuple[int, int] = (256, 256)
    depths: int = 64
    task_width: int = 64
    task_kernel: int = 1
    classes: int = len(CLASS_NAMES)
    denoising: Denoising = Denoising()
    class_weight: float = 2.0
    box_weight: float = 0.25
    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    code_weights: tuple[float, ...] = (2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.2, 0.2)
    max_boxes: int = 300
    kept_range_m: tuple[float, float, float, float, float, float] = (
        -61.2,
        -61.2,
        -10.0,
        61.2,
        61.2,
        10.0,
    )

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ConfigError(f"width {self.width} is not divisible by {self.heads} heads")
        if self.task_kernel % 2 == 0:
            raise ConfigError(f"task_kernel {self.task_kernel} is even; it has no middle query")
