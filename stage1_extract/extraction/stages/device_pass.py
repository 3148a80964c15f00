"""The device's part of an extraction: backbones, rounding to float16 and measuring in one pass.

Nothing here waits for a GPU: maps travel to page-locked memory on a stream of their own, while the
next batch is computed, and `ComputedBatch.row` waits until they have arrived. On a CPU the same
operations run at once.

B samples of a batch, P planes (channels of all views) of a sample's map.
"""

import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from cache.format.statistics import MapMeasure, MeasuredFeatures, Statistics
from shared.process.device import HostCopy
from stage1_extract.backbones.live import LiveFeatures, RawBatch
from stage1_extract.preprocessing.raw_frames import RawFrame

Split = Callable[[RawBatch, Mapping[str, Tensor]], tuple[tuple[RawFrame, ...], dict[str, Tensor]]]

CACHED_VALUES = 2**19  # 2 MB in float32
LOW, HIGH, ROUNDED_LOW, ROUNDED_HIGH, MEAN, STD = range(6)  # columns of `round_and_measure`


class ComputedBatch:
    """The maps of a batch, on their way to the host.

    Args:
        rows: of the batch.
        maps: float16, (at least B, ...) by name.
        measures: (maps, at least B, 6) float64, see `round_and_measure`.
        stopwatch: of the pass.
        samples: of the batch; there are more rows where sensors are rows.
    """

    def __init__(
        self,
        rows: Sequence[RawFrame],
        maps: Mapping[str, HostCopy],
        measures: HostCopy,
        stopwatch: "Stopwatch",
        samples: int,
    ) -> None:
        self._rows, self._maps, self._measures = rows, maps, measures
        self._stopwatch, self.samples = stopwatch, samples

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, index: int) -> MeasuredFeatures:
        """Return a row, once it has arrived; any thread may ask."""
        numbers = self._measures.wait()[:, index].tolist()
        arrived = {name: copy.wait()[index].numpy() for name, copy in self._maps.items()}
        return MeasuredFeatures(
            frame=self._rows[index].frame,
            maps=arrived,
            sources=self._rows[index].sources,
            measures={
                name: _map_measure(columns, values.size)
                for (name, values), columns in zip(arrived.items(), numbers, strict=True)
            },
        )

    def seconds(self) -> float:
        """Return how long the device took; waits until it is done."""
        self._measures.wait()
        return self._stopwatch.seconds()


class DevicePass:
    """Turns batches into rows of a store.

    Args:
        live: the backbones.
        split: returns rows and their maps of a batch whose samples are not rows, see `SensorRows`.
    """

    def __init__(self, live: LiveFeatures, split: Split | None = None) -> None:
        self._live, self._split = live, split
        self._copies: torch.cuda.Stream | None = None
        if live.frozen.device.type == "cuda":
            self._copies = torch.cuda.Stream(live.frozen.device)  # type: ignore[no-untyped-call]

    @torch.inference_mode()
    def __call__(self, batch: RawBatch) -> ComputedBatch:
        """Queue everything that a batch needs."""
        stopwatch = Stopwatch(is_cuda=self._copies is not None)
        rows, maps = batch.rows, self._live.maps(batch)
        if self._split is not None:
            rows, maps = self._split(batch, maps)
        pairs = {name: round_and_measure(values) for name, values in maps.items()}
        measures = torch.stack([measure for _, measure in pairs.values()])
        stopwatch.stop()
        rounded = {name: values for name, (values, _) in pairs.items()}
        copies, numbers = self._to_host(rounded, measures)
        return ComputedBatch(rows, copies, numbers, stopwatch, len(batch.rows))

    def _to_host(
        self, maps: dict[str, Tensor], measures: Tensor
    ) -> tuple[dict[str, HostCopy], HostCopy]:
        """Start the copies behind what is queued; the device's memory lives until they are done."""
        if self._copies is not None:
            self._copies.wait_stream(torch.cuda.current_stream(measures.device))
            for tensor in (*maps.values(), measures):
                tensor.record_stream(self._copies)
        with torch.cuda.stream(self._copies):  # no effect without a stream
            return {name: HostCopy(values) for name, values in maps.items()}, HostCopy(measures)


class Stopwatch:
    """Times what is queued from now on until `stop`, on the device itself if that is a GPU."""

    def __init__(self, *, is_cuda: bool) -> None:
        self._events = (
            [torch.cuda.Event(enable_timing=True) for _ in range(2)]  # type: ignore[no-untyped-call]
            if is_cuda
            else []
        )
        self._started = time.perf_counter()
        if self._events:
            self._events[0].record()

    def stop(self) -> None:
        """End what is timed."""
        self._elapsed = time.perf_counter() - self._started
        if self._events:
            self._events[1].record()

    def seconds(self) -> float:
        """Return the time, once the device is known to be done."""
        if not self._events:
            return self._elapsed
        return float(self._events[0].elapsed_time(self._events[1])) / 1e3


def round_and_measure(values: Tensor) -> tuple[Tensor, Tensor]:
    """Round maps to float16, and measure every sample's.

    `Statistics.of` is the readable version of the same numbers.

    Args:
        values: (B, ..., C, H, W) on any device.

    Returns:
        The values in float16, and (B, 6) float64: smallest and largest value before rounding (NaN
        if any is), smallest, largest, mean and standard deviation after it.
    """
    planes = values.flatten(1, -3).flatten(-2)  # (B, P, H * W)
    low, high = planes.amin((1, 2)), planes.amax((1, 2))
    rounded = planes.half()
    count = planes[0].numel()
    # On a CPU in pieces that stay in its cache, and need no new memory.
    whole = rounded.shape[1] if rounded.is_cuda else max(1, CACHED_VALUES // rounded.shape[2])
    pieces = torch.split(rounded, whole, dim=1)
    sums = torch.cat([piece.float().sum(-1) for piece in pieces], dim=1)  # of every plane
    mean = sums.double().sum(-1) / count
    shift = mean.float()[:, None, None]
    norms = [torch.linalg.vector_norm(piece.float().sub_(shift), dim=-1) for piece in pieces]
    square = torch.cat(norms, dim=1).double().square().sum(-1) / count
    columns = [low, high, low.half(), high.half(), mean, square.sqrt()]
    return rounded.view(values.shape), torch.stack([column.double() for column in columns], -1)


def _map_measure(columns: Sequence[float], count: int) -> MapMeasure:
    low, high = columns[ROUNDED_LOW], columns[ROUNDED_HIGH]
    return MapMeasure(
        low=columns[LOW],
        high=columns[HIGH],
        statistics=Statistics(
            count=count,
            min=low,
            max=high,
            mean=columns[MEAN],
            std=columns[STD],
            absmax=max(-low, high),
        ),
    )
