"""What a training recipe is: every hyper-parameter of a run, in one frozen dataclass."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from shared.config.aqr_config import AqrConfig
from shared.data.sensor_drop import SensorDrop
from shared.errors import ConfigError

Schedule = Literal["cyclic", "cosine"]
Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
BestBy = Literal["NDS", "mAP", "loss", "mean_NDS"]
MOST_SEED = 2**32 - 1
COUNTS = (
    *("steps", "epochs", "batch_size", "accumulate", "checkpoint_every"),
    *("validate_steps", "validate_epochs", "validation_samples", "patience"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """One way to train.

    Args:
        name: for logs and config.json.
        aqr: AQR on top of CMT; None trains plain CMT.
        sensor_drop: sensors left out of training samples; None keeps all.
        conditions: (name, probability) pairs: how often a training sample is under a condition,
            from its delta store; what is left of 1 is clean. `sensor_drop` comes on top.
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
        keep_last: checkpoints to keep, besides the best one.
        validate_steps, validate_epochs: from one validation to the next, in a run that has a
            validation store; at most one of them is set. By default an epoch, in a recipe that
            counts epochs, else `checkpoint_every` steps. The last step is always validated.
        validation_samples: samples that a validation takes, evenly spread over the store; None
            takes all. At the end the best detector is scored on all in any case.
        best_by: what decides which step is the best; without the tables of nuScenes, the loss does.
            "mean_NDS" is the mean over the clean samples and every condition that is validated.
        patience: stop after so many validations in a row without a better one; None never does.
    """

    name: str
    aqr: AqrConfig | None = None
    sensor_drop: SensorDrop | None = None
    conditions: tuple[tuple[str, float], ...] = ()
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
    schedule: Schedule = "cyclic"
    peak_ratio: float = 6.0
    final_ratio: float = 1e-4
    rising_share: float = 0.4
    warmup_steps: int = 500
    ema_decay: float | None = None
    seed: int = 0
    precision: Precision = "auto"
    tf32: bool = False
    checkpoint_every: int = 500
    keep_last: int = 3
    validate_steps: int | None = None
    validate_epochs: int | None = None
    validation_samples: int | None = 500
    best_by: BestBy = "NDS"
    patience: int | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise ConfigError(
                f"recipe {self.name}: set either steps or epochs, and the other one to none; they "
                f"are {self.steps} and {self.epochs}"
            )
        for field, legal, is_legal in self._ranges():
            if not is_legal:
                value = getattr(self, field)
                raise ConfigError(f"recipe {self.name}: {field} must be {legal}, it is {value!r}")

    def _ranges(self) -> Iterator[tuple[str, str, bool]]:
        """Yield what each field must be, and whether it is; NaN never is."""
        if self.validate_steps is not None:
            yield (
                "validate_epochs",
                "none where validate_steps is set",
                self.validate_epochs is None,
            )
        for field in COUNTS:
            value = getattr(self, field)
            yield field, "at least 1", value is None or value >= 1
        yield "keep_last", "at least 1", self.keep_last >= 1
        for field in (*COUNTS, "keep_last", "warmup_steps", "seed"):
            value = getattr(self, field)
            yield field, "a whole number", value is None or isinstance(value, int)
        yield "frozen", "several names, as in ('img_neck',)", not isinstance(self.frozen, str)
        for field in ("learning_rate", "clip_norm", "peak_ratio"):
            yield field, "above 0", 0 < getattr(self, field) < math.inf
        for field in ("weight_decay", "final_ratio", "warmup_steps"):
            yield field, "at least 0", 0 <= getattr(self, field) < math.inf
        keys = [key for key, _ in self.lr_multipliers]
        yield "lr_multipliers", "pairs of different keys", len(set(keys)) == len(keys)
        for key, factor in self.lr_multipliers:
            legal = f"pairs of a key and a factor of at least 0 (that of {key!r} is not)"
            yield "lr_multipliers", legal, 0 <= factor < math.inf
        conditions = [name for name, _ in self.conditions]
        chances = [chance for _, chance in self.conditions]
        yield (
            "conditions",
            "pairs of different names and probabilities above 0 with a sum of at most 1",
            all(conditions)
            and len(set(conditions)) == len(conditions)
            and all(chance > 0 for chance in chances)
            and sum(chances) <= 1 + 1e-9,
        )
        yield "rising_share", "from 0 to 1", 0 <= self.rising_share <= 1
        decay = self.ema_decay
        yield "ema_decay", "between 0 and 1", decay is None or 0 < decay < 1
        yield "seed", f"from 0 to {MOST_SEED}", 0 <= self.seed <= MOST_SEED
        for field, choices in (
            ("schedule", Schedule),
            ("precision", Precision),
            ("best_by", BestBy),
        ):
            names = get_args(choices)
            yield field, " or ".join(names), getattr(self, field) in names
