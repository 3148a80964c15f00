"""Which samples a training step uses, in which variants, conditions and without which sensors.

All of it depends on seed, epoch and position only: not on when a run was interrupted, on how many
processes share it or on who loads the samples.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from shared.data.sensor_drop import NOTHING, Absent, SensorDrop, condition
from shared.errors import ConfigError
from stage2_train.data.class_balance import ClassBalance

if TYPE_CHECKING:
    import torch

CLEAN = ""  # the name of no condition


class Place(NamedTuple):
    """One sample of a batch.

    Args:
        variant: augmented variant.
        sample: its position in the dataset.
        absent: sensors to leave out, see `shared.data.sensor_drop`.
        camera_variant: augmented variant of the images; None for the same.
        condition: name of the condition that the sample is under, before sensors are left out of
            it; `CLEAN` for none.
    """

    variant: int
    sample: int
    absent: Absent = NOTHING
    camera_variant: int | None = None
    condition: str = CLEAN

    @property
    def label(self) -> str:
        """What logs call it: by what is absent, else by its condition, else "all" (sensors)."""
        return self.condition if self.condition and not self.absent else condition(self.absent)


class EpochSampler:
    """Endless batches of places; the samples of an epoch are drawn and shuffled anew each time.

    Args:
        samples: number of samples.
        batch_size: samples per step, of all processes together; a shorter last batch is dropped
            unless it is the only one.
        seed: of the run.
        variants: variants of each sample; one of them is drawn every time a sample is taken.
        per_sensor: draw the variant of the images independently of that of LiDAR and boxes.
        first_step: batches to skip, counted from the run's beginning (resume).
        balance: draws the samples of an epoch; without it, every sample comes once.
        drop: which sensors to leave out; None leaves out none.
        conditions: (name, probability) pairs: what a sample is under, by default nothing.
    """

    def __init__(
        self,
        samples: int,
        batch_size: int,
        seed: int,
        *,
        variants: int = 1,
        per_sensor: bool = False,
        first_step: int = 0,
        balance: ClassBalance | None = None,
        drop: SensorDrop | None = None,
        conditions: Sequence[tuple[str, float]] = (),
    ) -> None:
        self.samples = samples
        self.seed = seed
        self.variants = variants
        self.per_sensor = per_sensor
        self.first_step = first_step
        self.balance = balance
        self.drop = drop
        self.conditions = tuple(conditions)
        self.batch_size = min(batch_size, self.samples_per_epoch)

    @property
    def samples_per_epoch(self) -> int:
        """Samples taken in an epoch, those of a dropped last batch included."""
        return self.samples if self.balance is None else len(self.balance)

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one epoch."""
        return self.samples_per_epoch // self.batch_size

    def __iter__(self) -> Iterator[list[Place]]:
        epoch, position = divmod(self.first_step, self.steps_per_epoch)
        while True:
            places = self.epoch(epoch)
            for step in range(position, self.steps_per_epoch):
                yield places[step * self.batch_size : (step + 1) * self.batch_size]
            epoch, position = epoch + 1, 0

    def epoch(self, epoch: int) -> list[Place]:
        """Return the places of an epoch in their order, those of a dropped last batch included."""
        import torch  # not before: commands name places and conditions without it

        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        count = self.samples_per_epoch
        order = torch.randperm(count, generator=generator).numpy()
        variants = torch.randint(self.variants, (count,), generator=generator).tolist()
        absent = [NOTHING] * count if self.drop is None else self.drop.draw(count, generator)
        if self.balance is not None:
            seed = int(torch.randint(2**31, (), generator=generator))
            order = self.balance.draw(np.random.RandomState(seed))[order]
        cameras: list[int] | list[None] = [None] * count
        if self.per_sensor:  # drawn last: all else is what it is without
            cameras = torch.randint(self.variants, (count,), generator=generator).tolist()
        conditions = self._drawn_conditions(count, generator)
        places = zip(variants, order.tolist(), absent, cameras, conditions, strict=True)
        return [Place(*place) for place in places]

    def _drawn_conditions(self, count: int, generator: "torch.Generator") -> list[str]:
        """Return what each of an epoch's samples is under; drawn after everything else, too."""
        if not self.conditions:
            return [CLEAN] * count
        import torch

        names = [*(name for name, _ in self.conditions), CLEAN]
        ends = np.cumsum([probability for _, probability in self.conditions])
        chances = torch.rand(count, generator=generator, dtype=torch.float64).numpy()
        return [names[i] for i in np.searchsorted(ends, chances, side="right")]


class MicroBatchSampler:
    """A sampler's batches, cut into the micro-batches that one process takes.

    Args:
        batches: of the whole run, all of one size.
        size: of those batches.
        process, processes: which of how many.
        passes: micro-batches per process and optimizer step.

    Raises:
        ConfigError: if a batch cannot be divided evenly.
    """

    def __init__(
        self,
        batches: Iterable[list[Place]],
        size: int,
        *,
        process: int,
        processes: int,
        passes: int,
    ) -> None:
        if size % (processes * passes):
            raise ConfigError(
                f"a batch of {size} samples cannot be shared evenly by {processes} processes in "
                f"{passes} passes each; choose another batch_size or accumulate in the recipe, or "
                "another number of devices"
            )
        self.batches = batches
        self.size = size // (processes * passes)
        self.first, self.passes = process * passes, passes

    def __iter__(self) -> Iterator[list[Place]]:
        for batch in self.batches:
            for index in range(self.first, self.first + self.passes):
                yield batch[index * self.size : (index + 1) * self.size]
