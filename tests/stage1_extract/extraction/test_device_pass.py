"""Rounding and measuring on the device: the same numbers as the readable version in NumPy."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from cache.format.statistics import Statistics
from shared.config.preset_catalogue import tiny
from stage1_extract.backbones.live import LiveFeatures, RawBatch
from stage1_extract.extraction.stages.device_pass import DevicePass, round_and_measure
from stage1_extract.preprocessing.raw_frames import RawFrame
from tests.cache.conftest import make_features

DEVICES = [
    pytest.param("cpu"),
    pytest.param("cuda", marks=pytest.mark.gpu),
]
CASES = {
    "camera": ((3, 6, 32, 20, 50), 1.0, 0.0),
    "lidar": ((2, 16, 64, 64), 3.0, 1.0),
    "constant": ((2, 4, 8, 8), 0.0, 0.7),
    "far from zero": ((2, 4, 40, 40), 1e-3, 1000.0),
    "one value": ((1, 1, 1, 1), 1.0, 0.0),
}


def as_numbers(statistics: Statistics) -> list[float]:
    """Statistics as `round_and_measure` returns them: min, max, mean, std."""
    return [statistics.min, statistics.max, statistics.mean, statistics.std]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("case", list(CASES))
def test_the_fused_pass_agrees_with_numpy(case: str, dtype: torch.dtype, device: str) -> None:
    shape, scale, offset = CASES[case]
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * scale + offset
    values = values.to(dtype)
    rounded, measures = round_and_measure(values.to(device))
    expected = values.numpy().astype(np.float16)
    assert np.array_equal(rounded.cpu().numpy(), expected)
    for sample, numbers in enumerate(measures.cpu().tolist()):
        statistics = Statistics.of(expected[sample])
        low, high = float(values[sample].min()), float(values[sample].max())
        assert numbers[:2] == [low, high]
        tolerance = 1e-6 * statistics.absmax
        assert numbers[2:] == pytest.approx(as_numbers(statistics), rel=1e-6, abs=tolerance)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 65510.0])
def test_a_value_without_a_finite_float16_shows_in_the_range_before_rounding(
    bad: float, device: str
) -> None:
    values = torch.ones(2, 3, 4, 4, device=device)
    values[1, 2, 3, 1] = bad
    _, measures = round_and_measure(values)
    (fit, unfit) = measures[:, :2].abs().amax(1).tolist()
    assert fit == 1
    assert not unfit <= 65504  # also where it is NaN


def test_a_sample_has_the_same_measures_in_any_batch() -> None:
    values = torch.randn(5, 6, 16, 12, 20, generator=torch.Generator().manual_seed(1))
    _, together = round_and_measure(values)
    alone = torch.cat([round_and_measure(values[i : i + 1])[1] for i in range(5)])
    assert torch.equal(together, alone)


class Live:
    """Stands in for `LiveFeatures`: known maps."""

    def __init__(self, maps: dict[str, torch.Tensor], device: str) -> None:
        self.frozen = SimpleNamespace(device=torch.device(device))
        self._maps = {name: values.to(device) for name, values in maps.items()}

    def maps(self, _: RawBatch) -> dict[str, torch.Tensor]:
        return self._maps


@pytest.mark.parametrize("device", DEVICES)
def test_rows_arrive_on_the_host_in_their_order_without_the_padding(device: str) -> None:
    samples = [make_features("ant"), make_features("bee")]
    rows = tuple(RawFrame(frame=row.frame, images=None, voxels=None) for row in samples)
    stacked: dict[str, Any] = {
        name: torch.from_numpy(np.stack([row.maps[name] for row in (*samples, samples[-1])]))
        for name in samples[0].maps
    }
    live: Any = Live(stacked, device)
    batch = DevicePass(live)(RawBatch(rows=rows, images=None, voxels=None))
    assert len(batch) == 2
    for index, sample in enumerate(samples):
        row = batch.row(index)
        assert row.frame is sample.frame
        for name, values in row.maps.items():
            assert isinstance(values, np.ndarray)
            assert values.dtype == np.float16
            assert np.array_equal(values, np.asarray(sample.maps[name], np.float16))
            assert row.measures[name].statistics.count == values.size
    assert batch.seconds() > 0


def test_cudnn_may_not_try_out_algorithms_while_backbones_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cudnn, during = torch.backends.cudnn, []
    monkeypatch.setattr(cudnn, "benchmark", True)

    class Frozen:
        device, preset = torch.device("cpu"), tiny()

        def __call__(self, *_: object) -> dict[str, torch.Tensor]:
            during.append((cudnn.benchmark, cudnn.deterministic))
            return {}

    backbones: Any = Frozen()
    LiveFeatures([], backbones).maps(RawBatch(rows=(), images=None, voxels=None))
    assert during == [(False, True)]
    assert (cudnn.benchmark, cudnn.deterministic) == (True, False)
