"""How many threads load by default, and how far they read ahead."""

from pathlib import Path

import pytest

from shared.process.cores import available_cores
from stage2_train import __main__ as train_command
from stage2_train import evaluate as evaluate_command
from stage2_train.data.loader import default_workers
from stage2_train.data.loading_options import PROCESS, THREADS
from stage2_train.data.reading_ahead import batches_ahead


@pytest.mark.parametrize(
    ("has_gpu", "cores", "devices", "workers"),
    [
        (True, 8, 1, 7),
        (True, 64, 1, 8),
        (True, 64, 8, 7),
        (True, 1, 1, 1),
        (True, 4, 8, 1),
        (False, 16, 1, 8),
        (False, 2, 1, 1),
        (False, 1, 1, 0),
        (False, 4, 2, 1),
    ],
)
def test_threads_are_started_for_the_cores_there_are(
    has_gpu: bool, cores: int, devices: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: has_gpu)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert available_cores() == cores
    assert default_workers(devices) == workers
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(devices))  # as torchrun sets it
    assert default_workers() == workers


def test_enough_samples_are_in_line_and_their_memory_is_bounded() -> None:
    for workers in range(1, 17):
        for batch_size in (1, 2, 8, 16):
            samples = batches_ahead(workers, batch_size) * batch_size
            assert samples >= max(2 * workers, batch_size)
            assert samples < 2 * workers + batch_size


@pytest.mark.parametrize(("options", "workers"), [([], 3), (["--workers", "0"], 0)])
def test_the_commands_start_as_many_threads_as_they_should(
    options: list[str], workers: int, monkeypatch: pytest.MonkeyPatch, tiny_store: Path
) -> None:
    given: list[int] = []

    def work(*_: object, workers: int, **__: object) -> dict[str, float]:
        given.append(workers)
        return {}

    where = [str(tiny_store), "--out", "nowhere"]
    monkeypatch.setattr("stage2_train.data.loader.default_workers", lambda *_: 3)
    monkeypatch.setattr("stage2_train.training.build.train", work)
    monkeypatch.setattr("stage2_train.store_evaluation.evaluate", work)
    monkeypatch.setattr("stage2_train.run.trained_detector.load_detector", lambda *_: None)
    assert train_command.main([*where, *options]) == 0
    assert evaluate_command.main([*where, str(tiny_store), *options]) == 0  # as if it were a run
    assert given == [workers, workers]


@pytest.mark.parametrize(("options", "loader"), [([], THREADS), (["--loader", "process"], PROCESS)])
def test_training_loads_where_the_command_says(
    options: list[str], loader: str, monkeypatch: pytest.MonkeyPatch, tiny_store: Path
) -> None:
    given: list[str] = []

    def work(*_: object, loader: str, **__: object) -> dict[str, float]:
        given.append(loader)
        return {}

    monkeypatch.setattr("stage2_train.training.build.train", work)
    assert train_command.main([str(tiny_store), "--out", "nowhere", *options]) == 0
    assert given == [loader]
