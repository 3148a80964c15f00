"""Real training steps on a GPU: nothing waits, and lower precisions train as float32 does.

Features are random, of the shapes of r50 and about the size of real ones.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import pytest
import torch

from shared.config.preset import Preset
from shared.config.preset_catalogue import r50_800x320, tiny
from shared.data.batch import Batch
from stage2_train.data.loader import EVALUATION_BATCH
from stage2_train.data.prefetch import prefetch_to_device
from stage2_train.evaluation.conditions.judged_condition import CLEAN_SAMPLES
from stage2_train.evaluation.conditions.measured_batch import measure_batch
from stage2_train.recipes.recipe import Recipe
from stage2_train.recipes.recipes import RECIPES
from stage2_train.training.training_step import TrainingStep
from tests.stage2_train.training.synthetic_batches import random_batch, take, training_step

RECIPE_NAMES = ("cmt", "frozen_a", "aqr_only")
STEPS = 20
# Of float32's loss, for the mean of the last steps. The same batch is trained on again and again;
# a step differs by rounding, which training amplifies.
BAND = 0.15
COMPARED = 5
MOST_SKIPPED = 15  # the gradient scale starts at 65,536 and halves until nothing overflows

# Warnings differ between versions of torch; what they warn of is not what is tested.
pytestmark = pytest.mark.filterwarnings("ignore")

DEVICES = [
    pytest.param((torch.device("cpu"), tiny()), id="cpu", marks=pytest.mark.slow),
    pytest.param((torch.device("cuda"), r50_800x320()), id="cuda", marks=pytest.mark.gpu),
]


@pytest.fixture
def strict() -> Iterator[None]:
    """Make every wait for the GPU an error when switched on, and switch it off at the end."""
    yield
    if torch.cuda.is_available():
        torch.cuda.set_sync_debug_mode("default")


def short(name: str, precision: str) -> Recipe:
    """Return a recipe whose rate is as that of a run that has warmed up."""
    return replace(
        RECIPES[name](), batch_size=2, epochs=None, steps=1000, precision=precision, seed=0
    )


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed", "32-true"])
@pytest.mark.parametrize("name", RECIPE_NAMES)
def test_a_steady_step_waits_only_for_the_matching_costs(
    name: str, precision: str, strict: None
) -> None:
    preset = r50_800x320()
    step = training_step(short(name, precision), preset, reads_late=True)
    batches = iter([random_batch(preset, (40, 25), seed) for seed in range(8)])
    stream = prefetch_to_device(batches, 1, step.fabric.device)
    for index in range(3):  # kernels are compiled, memory is reserved, constants are made
        (batch,) = next(stream)
        take(step, batch, index).read()
    (batch,) = next(stream)
    torch.cuda.synchronize()

    torch.cuda.set_sync_debug_mode("error")
    previous = take(step, batch, 3)
    (batch,) = next(stream)
    take(step, batch, 4)
    previous.read()
    torch.cuda.set_sync_debug_mode("default")


@cache
def losses(name: str, precision: str, preset: Preset) -> tuple[tuple[float, ...], int]:
    """Return the losses of the steps that were not skipped, and how many were."""
    step = training_step(short(name, precision), preset, reads_late=True)
    batch = random_batch(preset, (40, 25)).to(step.fabric.device)
    skipped, taken = 0, []
    while len(taken) < STEPS and skipped <= MOST_SKIPPED:
        result = take(step, batch, len(taken)).read()
        if result.was_skipped:
            skipped += 1
        else:
            taken.append(result.loss)
    weights = step.raw_module.detector.state_dict().values()
    assert all(values.isfinite().all() for values in weights)
    return tuple(taken), skipped


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("name", RECIPE_NAMES)
def test_twenty_steps_in_lower_precision_have_about_the_losses_of_float32(
    name: str, precision: str, device: tuple[torch.device, Preset]
) -> None:
    _, preset = device

    exact, _ = losses(name, "32-true", preset)
    ours, skipped = losses(name, precision, preset)

    assert skipped <= (MOST_SKIPPED if precision == "16-mixed" else 0)
    assert len(ours) == len(exact) == STEPS
    assert all(math.isfinite(loss) for loss in ours)
    assert ours[0] == pytest.approx(exact[0], rel=0.02)
    ends = [sum(values[-COMPARED:]) / COMPARED for values in (ours, exact)]
    assert ends[0] == pytest.approx(ends[1], rel=BAND)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed", "32-true"])
def test_a_batch_of_validation_needs_no_more_memory_than_a_step_of_as_many_samples(
    precision: str, device: tuple[torch.device, Preset]
) -> None:
    kind, preset = device
    step = training_step(short("cmt", precision), preset, reads_late=True)
    batch = random_batch(preset, (25,) * EVALUATION_BATCH).to(step.fabric.device)
    peaks = []

    take(step, batch).read()
    for computes in (lambda: take(step, batch, 1).read(), lambda: validated(step, batch)):
        if kind.type == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        computes()
        if kind.type == "cuda":
            torch.cuda.synchronize()
            peaks.append(torch.cuda.max_memory_allocated())

    assert kind.type == "cpu" or peaks[1] < peaks[0]
    take(step, batch, 2).read()  # and the training goes on


def validated(step: TrainingStep, batch: Batch) -> None:
    """Measure a batch as a validation does."""
    detector = step.raw_module.detector.eval()
    with step.fabric.autocast():
        measured = measure_batch(detector, batch, 0, CLEAN_SAMPLES.name, store=None)
    step.module.train()
    assert math.isfinite(measured.loss)
    assert measured.samples == EVALUATION_BATCH
