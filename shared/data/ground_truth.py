"""The boxes of a batch as losses and matching read them: all samples in one tensor.

How many boxes a sample has is known on the host, so that nothing has to ask the device.
B samples, M boxes of the batch, n boxes of the fullest sample.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from shared.process.device import send


@dataclass(frozen=True, kw_only=True, slots=True)
class GroundTruth:
    """Boxes and classes of a batch.

    Args:
        boxes_lidar: (M, 9) float32, sample by sample, see `shared.data.features.Annotations`.
        labels: (M,) int64.
        rows: (B, n) int64, the rows of a sample's boxes, ordered by class; 0 where it has fewer.
        sample, column: (M,) int64, where each box of a sample is in `rows`, in that order.
        by_class: (M,) int64, always on the host: `rows` without what fills it up.
        box_counts: of the B samples.
    """

    boxes_lidar: Tensor
    labels: Tensor
    rows: Tensor
    sample: Tensor
    column: Tensor
    by_class: Tensor
    box_counts: tuple[int, ...]

    @classmethod
    def of(cls, boxes: Sequence[Tensor], labels: Sequence[Tensor]) -> "GroundTruth":
        """Collect the boxes of B samples.

        Args:
            boxes: B tensors (n, 9) on the host.
            labels: B tensors (n,) int64 on the host.
        """
        counts = tuple(len(own) for own in boxes)
        rows = torch.zeros(len(counts), max(counts), dtype=torch.int64)
        start = 0
        for sample, own in enumerate(labels):
            # Upstream: boxes are ordered by class before matching, which decides between equal
            # costs.
            rows[sample, : len(own)] = own.argsort(stable=True) + start
            start += len(own)
        places = [(sample, i) for sample, count in enumerate(counts) for i in range(count)]
        sample, column = torch.tensor(places, dtype=torch.int64).view(-1, 2).T.contiguous()
        return cls(
            boxes_lidar=torch.cat([*boxes]),
            labels=torch.cat([*labels]),
            rows=rows,
            sample=sample,
            column=column,
            by_class=rows[sample, column],
            box_counts=counts,
        )

    def to(self, device: torch.device | str) -> "GroundTruth":
        """Copy everything but `by_class` to a device, in one transfer that nothing waits for."""
        tensors = [self.boxes_lidar, self.labels, self.rows, self.sample, self.column]
        boxes, labels, rows, sample, column = send(tensors, device)
        return replace(
            self, boxes_lidar=boxes, labels=labels, rows=rows, sample=sample, column=column
        )
