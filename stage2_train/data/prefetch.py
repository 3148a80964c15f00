"""Batches on the device that computes, the next ones copied while it does."""

from collections.abc import Iterable, Iterator

import torch

from shared.data.batch import Batch

MicroBatches = list[Batch]  # what one process takes in one optimizer step, pass by pass


def prefetch_to_device(
    batches: Iterable[Batch], passes: int, device: torch.device
) -> Iterator[MicroBatches]:
    """Group an endless stream of batches by optimizer step and move them to `device`.

    On CUDA, the batches of the next step are copied and expanded on a separate stream while the
    current ones are used.
    """
    stream = iter(batches)
    if device.type != "cuda":
        while True:
            yield [next(stream).to(device) for _ in range(passes)]
    copying = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def moved() -> MicroBatches:
        with torch.cuda.stream(copying):
            return [next(stream).to(device) for _ in range(passes)]

    upcoming = moved()
    while True:
        computing = torch.cuda.current_stream(device)
        computing.wait_stream(copying)
        current = upcoming
        for batch in current:
            _keep_for(batch, computing)
        upcoming = moved()
        yield current


def _keep_for(batch: Batch, stream: torch.cuda.Stream) -> None:
    """Keep memory that a different stream allocated from being reused while this one reads it."""
    for tensor in (*batch.maps.values(), batch.img_from_lidar):
        tensor.record_stream(stream)
