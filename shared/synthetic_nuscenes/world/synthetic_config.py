"""Size and seed of the synthetic nuScenes: the only free numbers of the generator."""

from dataclasses import dataclass

from shared.errors import ConfigError

# nuscenes-devkit selects a split by scene name, so the names must come from its own lists.
MINI_TRAIN_SCENES = (
    "scene-0061",
    "scene-0553",
    "scene-0655",
    "scene-0757",
    "scene-0796",
    "scene-1077",
    "scene-1094",
    "scene-1100",
)
MINI_VAL_SCENES = ("scene-0103", "scene-0916")

VERSION = "v1.0-mini"
KEYFRAME_RATE_HZ = 2
IMAGE_WIDTH_PX = 1600
IMAGE_HEIGHT_PX = 900
HIGHEST_SWEEP_RATE_HZ = 20  # the real LiDAR's; sweeps are then 50 ms apart, as in the real set


LIMITS = {
    "seed": (0, 2**63 - 1),
    "scenes_train": (1, len(MINI_TRAIN_SCENES)),
    "scenes_val": (0, len(MINI_VAL_SCENES)),
    "samples_per_scene": (1, 1000),
    "sweep_rate_hz": (KEYFRAME_RATE_HZ, HIGHEST_SWEEP_RATE_HZ),
    "azimuth_steps": (8, 4096),
    "render_stride_px": (1, 100),
    "jpeg_quality": (1, 95),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class SyntheticConfig:
    """Size and seed of a synthetic data set; equal configs give equal bytes.

    Args:
        seed: every random number follows from it.
        scenes_train: scenes in the split mini_train, 1 to 8.
        scenes_val: scenes in the split mini_val, 0 to 2.
        samples_per_scene: keyframes per scene, 0.5 s apart, at least 1.
        sweep_rate_hz: LiDAR revolutions per second, a multiple of the keyframe rate (2) up to 20.
            The real set has 20; half of that halves the size on disk.
        azimuth_steps: LiDAR firings per revolution (1084 in the real LiDAR).
        render_stride_px: images are rendered at 1/stride of 1600 x 900 and enlarged; divides both.
        jpeg_quality: 1 to 95.

    Raises:
        ConfigError: if a number is outside its range.
    """

    seed: int = 0
    scenes_train: int = 8
    scenes_val: int = 2
    samples_per_scene: int = 10
    sweep_rate_hz: int = 10
    azimuth_steps: int = 720
    render_stride_px: int = 2
    jpeg_quality: int = 85

    def __post_init__(self) -> None:
        for name, (lowest, highest) in LIMITS.items():
            value = getattr(self, name)
            if not lowest <= value <= highest:
                raise ConfigError(f"{name} is {value}; it must be in [{lowest}, {highest}]")
        if self.sweep_rate_hz % KEYFRAME_RATE_HZ:
            raise ConfigError(
                f"the sweep rate is {self.sweep_rate_hz} Hz; every keyframe must be a sweep, so it "
                f"must be a multiple of the keyframe rate, {KEYFRAME_RATE_HZ} Hz"
            )
        if IMAGE_WIDTH_PX % self.render_stride_px or IMAGE_HEIGHT_PX % self.render_stride_px:
            raise ConfigError(
                f"render_stride_px is {self.render_stride_px}; it must divide "
                f"{IMAGE_WIDTH_PX} and {IMAGE_HEIGHT_PX}, e.g. 1, 2, 4 or 5"
            )

    @property
    def scene_names(self) -> tuple[str, ...]:
        """Names of all scenes: the training ones, then the validation ones."""
        return MINI_TRAIN_SCENES[: self.scenes_train] + MINI_VAL_SCENES[: self.scenes_val]

    @property
    def sweeps_per_keyframe(self) -> int:
        """LiDAR revolutions from a keyframe (not counted) to the next (counted)."""
        return self.sweep_rate_hz // KEYFRAME_RATE_HZ

    @property
    def duration_s(self) -> float:
        """Time from the first keyframe of a scene to the last."""
        return (self.samples_per_scene - 1) / KEYFRAME_RATE_HZ
