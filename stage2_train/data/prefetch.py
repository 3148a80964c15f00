"""Batches on the device that computes, the next ones on their way while it does."""

from collections.abc import Iterable, Iterator

import torch

from shared.data.batch import Batch

Share = list[Batch]  # what one process takes in one optimizer step, pass by pass


def device_shares(batches: Iterable[Batch], passes: int, device: torch.device) -> Iterator[Share]:
    """Group an endless stream of batches by optimizer step and move them to `device`.

    On CUDA, the next share is copied and expanded on a stream of its own while the current one is
    computed on.
    """
    stream = iter(batches)
    if device.type != "cuda":
        while True:
            yield [next(stream).to(device) for _ in range(passes)]
    beside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def moved() -> Share:
        with torch.cuda.stream(beside):
            return [next(stream).to(device) for _ in range(passes)]

    upcoming = moved()
    while True:
        main = torch.cuda.current_stream(device)
        main.wait_stream(beside)
        current = upcoming
        for batch in current:
            _keep_for(batch, main)
        upcoming = moved()
        yield current


def _keep_for(batch: Batch, stream: torch.cuda.Stream) -> None:
    """Keep memory that another stream allocated from being given away while this one reads it."""
    for tensor in (*batch.maps.values(), batch.img_from_lidar, *batch.boxes_lidar, *batch.labels):
        tensor.record_stream(stream)
