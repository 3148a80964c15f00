"""Batches reach the device in order, grouped by step."""

from itertools import islice
from pathlib import Path

import pytest
import torch

from cache.reader import CachedFeatures
from shared.data.batch import Batch
from stage2_train.data.dataset import StoreDataset
from stage2_train.data.loader import BatchLoader
from stage2_train.data.loading_options import LOADERS
from stage2_train.data.prefetch import prefetch_to_device
from stage2_train.data.sampler import EpochSampler
from stage2_train.run.step_clock import StepClock
from tests import fake_gpu


def endless(store: CachedFeatures) -> list[Batch]:
    order = EpochSampler(samples=3, batch_size=1, seed=0)
    loader = BatchLoader(StoreDataset(store, store.tokens), order, workers=0)
    return list(islice(iter(loader), 8))


def test_the_micro_batches_of_a_step_come_together(tiny_store: Path) -> None:
    batches = endless(CachedFeatures(tiny_store))

    steps = islice(prefetch_to_device(batches, 2, torch.device("cpu")), 3)

    tokens = [[batch.tokens for batch in micro_batches] for micro_batches in steps]
    assert tokens == [
        [a.tokens, b.tokens] for a, b in zip(batches[:6:2], batches[1:6:2], strict=True)
    ]


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["tiny_store", "tiny_store_8bit"])
def test_a_batch_copied_while_the_gpu_computes_arrives_intact(
    name: str, request: pytest.FixtureRequest
) -> None:
    batches = endless(CachedFeatures(request.getfixturevalue(name)))
    expected = [batch.to("cpu") for batch in batches]
    busy = torch.ones(2000, 2000, device="cuda")
    steps = prefetch_to_device(batches, 1, torch.device("cuda"))

    for index, (batch,) in enumerate(islice(steps, 6)):
        for _ in range(20):
            busy = busy @ busy / 2000
        for key, values in expected[index].maps.items():
            assert torch.equal(batch.maps[key].cpu(), values)


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("name", ["tiny_store", "tiny_store_8bit"])
def test_no_memory_is_reused_while_a_stream_still_needs_it(
    name: str, loader: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CachedFeatures(request.getfixturevalue(name))
    gpu = fake_gpu.install(monkeypatch)
    order = EpochSampler(samples=3, batch_size=1, seed=0)
    batches = iter(BatchLoader(StoreDataset(store, store.tokens), order, workers=1, loader=loader))

    for (batch,) in islice(prefetch_to_device(batches, 1, torch.device("cuda")), 6):
        sums = [values.sum() for values in (*batch.maps.values(), batch.img_from_lidar)]
        assert {tensor.device.type for tensor in sums} == {"cuda"}

    assert gpu.faults == []
    assert "copy to the device" in gpu.ran["stream 1"]


def test_the_clock_sums_pieces_by_name_and_restarts() -> None:
    clock = StepClock(torch.device("cpu"))
    for name in ("begin", "forward", "backward", "forward"):
        clock.mark(name)

    first = clock.lap().seconds()
    clock.mark("update")

    assert set(first) == {"forward", "backward"}
    assert min(first.values()) >= 0
    assert set(clock.lap().seconds()) == {"update"}


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_lap_knows_the_peak_of_a_gpu_so_far_and_nothing_on_a_cpu(device: str) -> None:
    clock = StepClock(torch.device(device))
    clock.mark("begin")
    peaks = []
    for megabytes in (8, 64, 1):
        clock.mark("data")
        torch.empty(megabytes * 1_000_000, dtype=torch.uint8, device=device)
        clock.mark("update")
        if device == "cuda":
            torch.cuda.synchronize()  # so that the marks can be read
        peaks.append(clock.lap().timing(2)["peak_gpu_mb"])

    if device == "cpu":
        assert peaks == [None, None, None]
    else:
        assert peaks[1] == peaks[2] == torch.cuda.max_memory_allocated() / 1e6
        assert peaks[1] >= 64
