"""The batches of a training run, whatever they are loaded from."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from shared.data.batch import Batch
from stage2_train.data.sampler import EpochSampler, Place


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingBatches:
    """An order of samples, and a way to load them.

    Args:
        order: makes the sampler of the whole run; called once the run folder has been checked,
            since counting the classes of a store takes a while.
        load: returns the batches of these places, one for each list.
    """

    order: Callable[[], EpochSampler]
    load: Callable[[Iterable[Sequence[Place]]], Iterable[Batch]]
