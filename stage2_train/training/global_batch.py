"""One optimizer step's samples, shared among processes and passes so that the sum is the same.

Losses are divided by the boxes of the whole batch, denoising queries are as many as its fullest
sample allows, and their noise is drawn for all of it: everything a share needs to know of the other
shares is how many boxes their samples have. So with any number of processes a step has the losses
and gradients of one process that holds the whole batch, up to the order of additions. Not so:
dropout, which draws per part, and BatchNorm in train mode, whose statistics are those of a part, as
in the official code; the running statistics that are saved are those of the first process.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from lightning.fabric import Fabric

from shared.config.preset import Preset
from shared.data.batch import Batch
from shared.errors import ConfigError, TrainingError
from shared.model.denoising import DenoisingQueries, denoising_groups, make_denoising_queries
from shared.model.losses import BatchCounts
from stage2_train.data.sampler import Place


class Shares:
    """A sampler's batches, cut into those that one process takes.

    Args:
        batches: of the whole run, all of one size.
        size: of those batches.
        process, processes: which of how many.
        passes: how many each process takes its share in.

    Raises:
        ConfigError: if a batch cannot be shared evenly.
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
        self.part = size // (processes * passes)
        self.first, self.passes = process * passes, passes

    def __iter__(self) -> Iterator[list[Place]]:
        for batch in self.batches:
            for index in range(self.first, self.first + self.passes):
                yield batch[index * self.part : (index + 1) * self.part]


@dataclass(frozen=True, kw_only=True, slots=True)
class GlobalBatch:
    """What a share knows of the whole batch.

    Args:
        box_counts: boxes of every sample, in the order of the sampler.
        signum: a signal that asked one of the processes to stop, or 0.
    """

    box_counts: tuple[int, ...]
    signum: int = 0

    def counts(self, preset: Preset) -> BatchCounts:
        """Return what the losses are divided by."""
        return BatchCounts.of(self.box_counts, preset.head)

    def denoising(
        self, batch: Batch, first: int, preset: Preset, seed: int
    ) -> DenoisingQueries | None:
        """Make the denoising queries of a part, with its rows of the whole batch's noise.

        Args:
            batch: the part.
            first: position of its first sample in the whole batch.
            preset: of the detector.
            seed: of the noise.
        """
        head, boxes = preset.head, sum(self.box_counts)
        fullest = max(self.box_counts)
        groups = denoising_groups(fullest, head)
        generator = torch.Generator().manual_seed(seed)
        noise = torch.rand((groups, boxes, 3), generator=generator) * 2 - 1
        start = sum(self.box_counts[:first])
        end = start + sum(self.box_counts[first : first + len(batch.tokens)])
        return make_denoising_queries(
            batch.boxes_lidar,
            batch.labels,
            head,
            preset.grid.point_range_m,
            noise=noise[:, start:end].flatten(0, 1),  # (N, 3)
            fullest=fullest,
        )


def agree(fabric: Fabric, share: Sequence[Batch], step: int, signum: int) -> GlobalBatch:
    """Tell the other processes what this one holds, and hear what they do.

    Raises:
        TrainingError: if they are at different steps.
    """
    counts = [len(boxes) for batch in share for boxes in batch.boxes_lidar]
    if fabric.world_size == 1:
        return GlobalBatch(box_counts=tuple(counts), signum=signum)
    mine = torch.tensor([step, signum, *counts], device=fabric.device)
    table = mine.new_zeros(fabric.world_size, len(mine))
    table[fabric.global_rank] = mine
    rows: list[list[int]] = fabric.all_reduce(table, reduce_op="sum").tolist()
    steps = [row[0] for row in rows]
    if len(set(steps)) > 1:
        raise TrainingError(
            f"the processes are at steps {', '.join(map(str, steps))}; they read different "
            "checkpoints: does every node see the same run folder?"
        )
    return GlobalBatch(
        box_counts=tuple(count for row in rows for count in row[2:]),
        signum=max(row[1] for row in rows),
    )
