"""What a training recipe is: every hyper-parameter of a run, in one frozen dataclass."""

from dataclasses import dataclass
from typing import Literal

from shared.config.aqr_config import AqrConfig
from shared.data.sensor_drop import SensorDrop
from shared.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """One way to train.

    Args:
        name: for logs and config.json.
        aqr: AQR on top of CMT; None trains plain CMT.
        sensor_drop: sensors left out of training samples; None keeps all.
        variants_per_sensor: draw the variant of the images independently of that of LiDAR and
            boxes, as official augmentation does: K stored variants give K x K samples.
        class_balanced: an epoch draws every class equally often (CBGS), not every sample once.
        frozen: parts of the detector that are not trained, by the beginning of their names; must
            include what lies before the store's cut.
        steps, epochs: length of the run; exactly one of them is set.
        batch_size: samples per optimizer step, of all processes together: a run on more devices is
            the same run.
        accumulate: passes in which each process takes its share of a batch; more passes need less
            memory.
        learning_rate, weight_decay: of AdamW, before multipliers.
        lr_multipliers: (key, factor) pairs; a parameter gets the factor of the longest key that its
            name contains, or 1.
        clip_norm: gradients are scaled down to this total norm.
        schedule: of the learning rate. "cyclic" is CMT's: from 1 up to `peak_ratio` over
            `rising_share` of the steps, then down to `final_ratio`. "cosine" rises linearly to 1
            over `warmup_steps`, then falls to `final_ratio`; for new modules that a high first rate
            would throw off.
        peak_ratio, final_ratio, rising_share, warmup_steps: see `schedule`; ratios are relative to
            the base rate.
        ema_decay: share that an exponential moving average of the weights keeps at each step; such
            a run is evaluated and exported with its average. Worth its memory in long runs.
        seed: of weights, order and denoising noise.
        precision: as Lightning Fabric names it. "auto" is "bf16-mixed" on a GPU that computes in
            bfloat16, "16-mixed" on any other, and "32-true" on a CPU; a run keeps what it started
            with.
        tf32: whether float32 products on a GPU may be rounded to TF32's 10 bits, which is faster.
        checkpoint_every: steps between checkpoints.
        keep_last: checkpoints to keep, besides the one with the lowest loss.
    """

    name: str
    aqr: AqrConfig | None = None
    sensor_drop: SensorDrop | None = None
    variants_per_sensor: bool = True
    class_balanced: bool = False
    frozen: tuple[str, ...] = ()
    steps: int | None = None
    epochs: int | None = None
    batch_size: int
    accumulate: int = 1
    learning_rate: float = 1.4e-4
    weight_decay: float = 0.01
    lr_multipliers: tuple[tuple[str, float], ...] = ()
    clip_norm: float = 35.0
    schedule: Literal["cyclic", "cosine"] = "cyclic"
    peak_ratio: float = 6.0
    final_ratio: float = 1e-4
    rising_share: float = 0.4
    warmup_steps: int = 500
    ema_decay: float | None = None
    seed: int = 0
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    tf32: bool = False
    checkpoint_every: int = 500
    keep_last: int = 3

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise ConfigError(f"recipe {self.name}: set either steps or epochs")
        for field in ("batch_size", "accumulate", "checkpoint_every", "keep_last"):
            if getattr(self, field) < 1:
                raise ConfigError(f"recipe {self.name}: {field} must be at least 1")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ConfigError(f"recipe {self.name}: ema_decay must lie between 0 and 1")
