"""Training on a stand-in for a GPU: the host waits once a step, and results are those of a CPU.

On tests/fake_training_gpu.py; test_on_gpu.py is for a real one.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from cache.reader import CachedFeatures
from shared.config.aqr_config import AqrConfig
from shared.data.batch import Batch
from shared.data.batch_memory import BatchMemory
from shared.data.ground_truth import GroundTruth
from shared.model.initial_detector import fresh_detector
from shared.process.device import HostCopy, device_constant
from stage2_train.data.dataset import StoreDataset
from stage2_train.data.loader import evaluation_batches
from stage2_train.data.prefetch import prefetch_to_device
from stage2_train.evaluation.conditions.store_validator import StoreValidator
from stage2_train.evaluation.detections import detect
from stage2_train.recipes.recipes import RECIPES
from stage2_train.training.build import train
from tests import fake_training_gpu
from tests.fake_tensors import FakeGpu
from tests.stage2_train.run.test_run_folder import columns
from tests.stage2_train.training.synthetic_batches import random_batch, small, take, training_step
from tests.stage2_train.training.test_training import recipe

# Without Triton, AQR's attention is computed in pieces; Fabric advises on tensor cores.
pytestmark = pytest.mark.filterwarnings("ignore")

WARM_UP, STEPS = 2, 2  # the first steps make constants
ROUNDING = 1e-3  # of losses: a GPU's step joins products and updates that a CPU computes apart


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGpu]:
    device_constant.cache_clear()
    yield fake_training_gpu.install(monkeypatch)
    device_constant.cache_clear()


def take_steps(gpu: FakeGpu, name: str, precision: str) -> list[list[str]]:
    """Take steps as a run does, each read when the next is queued; return the waits of each."""
    preset, steps = small(), WARM_UP + STEPS
    step = training_step(
        replace(RECIPES[name](), batch_size=3, precision=precision), preset, reads_late=True
    )
    loaded = (pinned(random_batch(preset, (3, 0, 5), seed)) for seed in range(steps + 1))
    batches = prefetch_to_device(loaded, 1, step.fabric.device)
    unread, waits = None, []
    for index in range(steps):
        gpu.waits.clear()
        (batch,) = next(batches)
        queued = take(step, batch, index)
        waits.append([*gpu.waits])
        if unread is not None:
            unread[0].read()
            assert unread[1].seconds()["backward"] > 0
        unread = queued, step.clock.lap()
    return waits[WARM_UP:]


def pinned(batch: Batch) -> Batch:
    """Return a batch in page-locked memory, as a loader makes it."""
    memory = BatchMemory(is_pinned=True)
    maps = {
        name: memory.tensor(tuple(values.shape), values.numpy().dtype).copy_(values)
        for name, values in batch.maps.items()
    }
    return replace(batch, maps=maps)


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("name", ["cmt", "frozen_a"])
def test_a_step_waits_only_for_the_matching_costs(name: str, precision: str, gpu: FakeGpu) -> None:
    assert take_steps(gpu, name, precision) == [["an event"]] * STEPS
    assert gpu.faults == []
    assert gpu.mixed == set()


def to_one_by_one(truth: GroundTruth, device: Any) -> GroundTruth:
    moved = {name: getattr(truth, name).to(device) for name in ("boxes_lidar", "labels", "rows")}
    places = {name: getattr(truth, name).to(device) for name in ("sample", "column")}
    return replace(truth, **moved, **places)


def do_not_wait(copy: HostCopy) -> Tensor:
    return copy._values


@pytest.mark.parametrize(
    ("kind", "name", "replacement"),
    [(GroundTruth, "to", to_one_by_one), (HostCopy, "wait", do_not_wait)],
)
def test_a_step_that_waits_more_often_or_too_little_would_be_noticed(
    kind: type, name: str, replacement: Any, gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kind, name, replacement)

    waits = take_steps(gpu, "cmt", "32-true")

    assert gpu.faults or waits != [["an event"]] * STEPS


@pytest.mark.parametrize("aqr", [None, AqrConfig()])
def test_a_run_that_is_resumed_and_validated_has_the_numbers_of_a_cpu(
    aqr: AqrConfig | None,
    tiny_store: Path,
    tiny_val_store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, val = CachedFeatures(tiny_store), CachedFeatures(tiny_val_store)
    run = recipe(
        steps=4,
        learning_rate=1e-4,
        precision="32-true",
        validate_steps=2,
        ema_decay=0.5,
        accumulate=2,
        aqr=aqr,
    )

    def run_in(out: Path) -> list[dict[str, list[float]]]:
        for last in (3, None):
            train(store, run, out, validator=StoreValidator(val, store), stop_after=last)
        return [columns(out / name) for name in ("log.csv", "validation.csv")]

    expected = run_in(tmp_path / "cpu")
    device_constant.cache_clear()
    gpu = fake_training_gpu.install(monkeypatch)
    ours = run_in(tmp_path / "gpu")
    device_constant.cache_clear()

    for numbers, wanted in zip(ours, expected, strict=True):
        for name in numbers.keys() - {"seconds"}:
            assert numbers[name] == pytest.approx(wanted[name], ROUNDING, ROUNDING**2), name
    assert gpu.faults == []
    assert gpu.mixed <= {"module_load"}  # which copies from anywhere


def test_an_evaluation_detects_what_it_detects_on_a_cpu(
    tiny_val_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    val = CachedFeatures(tiny_val_store)
    batches = partial(evaluation_batches, StoreDataset(val, val.tokens), 2, 0)

    def detected() -> list[dict[str, Any]]:
        detector = fresh_detector(val.preset, seed=0, aqr=AqrConfig())
        return [box for _, boxes in detect(detector, batches(), val) for box in boxes]

    expected = detected()
    device_constant.cache_clear()
    gpu = fake_training_gpu.install(monkeypatch)
    ours = detected()
    device_constant.cache_clear()

    assert len(ours) == len(expected) > 0
    for box, wanted in zip(ours, expected, strict=True):
        assert box["detection_name"] == wanted["detection_name"]
        assert box["translation"] == pytest.approx(wanted["translation"], ROUNDING)
    assert gpu.faults == []
    assert gpu.mixed == set()
