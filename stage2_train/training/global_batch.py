"""The batch of one optimizer step, divided among processes and passes without changing the sum.

Losses are divided by the boxes of the global batch, the number of denoising queries is what its
fullest sample allows, and their noise is drawn for all of it: a micro-batch only needs to know how
many boxes the other samples have. So with any number of processes a step has the losses and
gradients of one process that holds the global batch, up to the order of additions. The exceptions
are dropout, which is drawn per micro-batch, and BatchNorm in train mode, whose statistics are those
of a micro-batch, as in the official code; the first process's running statistics are saved.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric

from shared.config.preset import Preset
from shared.data.batch import Batch
from shared.errors import TrainingError
from shared.model.denoising import DenoisingQueries, denoising_groups, make_denoising_queries
from shared.model.losses import BatchCounts


@dataclass(frozen=True, kw_only=True, slots=True)
class GlobalBatch:
    """What every process knows of the batch of a step.

    Args:
        box_counts: boxes of every sample, in the order of the sampler.
        signum: a signal that asked one of the processes to stop; 0 without.
    """

    box_counts: tuple[int, ...]
    signum: int = 0

    def counts(self, preset: Preset) -> BatchCounts:
        """Return what the losses are divided by."""
        return BatchCounts.of(self.box_counts, preset.head)

    def denoising(
        self,
        batch: Batch,
        first: int,
        preset: Preset,
        seed: int,
        *,
        device: torch.device | str = "cpu",
    ) -> DenoisingQueries | None:
        """Make the denoising queries of a micro-batch, with its rows of the global batch's noise.

        Args:
            batch: the micro-batch.
            first: position of its first sample in the global batch.
            preset: of the detector.
            seed: of the noise.
            device: of the detector.
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
            device=device,
        )


def gather_global_batch(
    fabric: Fabric, micro_batches: Sequence[Batch], step: int, signum: int
) -> GlobalBatch:
    """Exchange box counts and signals with the other processes.

    Raises:
        TrainingError: if they are at different steps.
    """
    counts = [len(boxes) for batch in micro_batches for boxes in batch.boxes_lidar]
    if fabric.world_size == 1:
        return GlobalBatch(box_counts=tuple(counts), signum=signum)
    own = torch.tensor([step, signum, *counts], device=fabric.device)
    table = own.new_zeros(fabric.world_size, len(own))
    table[fabric.global_rank] = own
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
