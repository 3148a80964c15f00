"""How wide the stages are by default, which one is the limit, and what the identity says of it."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from shared.config.preset_catalogue import r50_800x320, tiny, vov_1600x640
from stage1_extract.extraction.extraction_identity import precision_policy, recorded_batch_size
from stage1_extract.extraction.stages.stage_rates import StageRates
from stage1_extract.extraction.stages.stage_widths import (
    Widths,
    choose_widths,
    default_batch_size,
    loader_processes,
)

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
GIB = 2**30


@pytest.mark.parametrize(
    ("device", "rows", "cores", "processes"),
    [
        (CUDA, 28130, 16, 16),
        (CUDA, 200, 16, 3),
        (CUDA, 8, 16, 0),
        (CPU, 28130, 2, 0),
        (CPU, 28130, 64, 0),
    ],
)
def test_a_gpu_gets_a_process_per_core_few_samples_and_a_cpu_none(
    device: torch.device, rows: int, cores: int, processes: int
) -> None:
    assert loader_processes(device, rows, cores) == processes


@pytest.mark.parametrize(
    ("cores", "slots", "batch", "threads", "rows"),
    [
        (1, 10, 1, 1, 21),
        (2, 10, 1, 2, 22),
        (16, 10, 4, 16, 36),
        (128, 10, 4, 16, 36),
        (1, 1, 8, 1, 10),
    ],
)
def test_where_threads_write_memory_has_two_shards_and_a_row_per_thread_or_a_batch(
    cores: int, slots: int, batch: int, threads: int, rows: int
) -> None:
    widths = choose_widths(0, cores, slots=slots, batch_rows=batch)
    assert widths == Widths(loaders=0, writers=threads, threads=threads, rows=rows)


@pytest.mark.parametrize(("loaders", "writers"), [(1, 1), (2, 2), (16, 12), (64, 48)])
def test_where_processes_write_memory_has_a_shard_for_each_and_two_more(
    loaders: int, writers: int
) -> None:
    widths = choose_widths(loaders, 16, slots=8, batch_rows=8)
    shards = writers + 2
    assert widths == Widths(loaders=loaders, writers=writers, threads=shards, rows=8 * shards)


@pytest.mark.parametrize(
    ("free", "expected"), [(140 * GIB, (8, 8, 4)), (16 * GIB, (8, 6, 2)), (GIB, (1, 1, 1))]
)
def test_the_batch_size_of_a_gpu_follows_its_free_memory(
    free: int, expected: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, free))
    presets = (tiny(), r50_800x320(), vov_1600x640())
    assert tuple(default_batch_size(preset, CUDA) for preset in presets) == expected
    assert default_batch_size(r50_800x320(), CPU) == 1


@pytest.mark.parametrize("free", [16 * GIB, 9 * GIB, GIB])
def test_processes_that_share_a_gpu_choose_the_same_batch_size_whoever_starts_first(
    free: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 16 * GIB))
    sizes = [default_batch_size(r50_800x320(), CUDA, processes) for processes in (2, 3, 8)]
    assert sizes == [3, 2, 1]


def test_only_a_gpu_names_its_batch_size_in_the_identity() -> None:
    on_cpu: Any = SimpleNamespace(device=CPU, precision="float32")
    on_gpu: Any = SimpleNamespace(device=CUDA, precision="float16 autocast")
    assert precision_policy(on_cpu, 4) == "float32"
    named = precision_policy(on_gpu, 4)
    assert named == "float16 autocast; batches of 4"
    assert recorded_batch_size({"precision": named}) == 4
    assert precision_policy(on_gpu, 2) != named  # so that a resume with another size is refused
    for older in ("float32", "float16 autocast"):
        assert recorded_batch_size({"precision": older}) is None
    assert precision_policy(on_gpu, None) == "float16 autocast"


def test_the_limit_is_the_stage_that_could_do_least() -> None:
    rates = StageRates({"loading": 4, "computing": 1, "writing": 2})
    rates.add("loading", 0.2, 2)
    rates.add("computing", 0.1, 4)
    assert str(rates) == ""
    rates.add("writing", 0.3, 6)
    rates.add("writing", 0.3, 0)  # files of the same samples
    assert rates.per_second() == pytest.approx({"loading": 40, "computing": 40, "writing": 20})
    assert str(rates) == "loading 40/s, computing 40/s, writing 20/s; writing is the limit"
