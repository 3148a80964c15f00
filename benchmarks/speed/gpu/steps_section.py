"""Training steps from a store through the real loader, by recipe, batch size and precision."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from benchmarks.speed.gpu.cases import Cases, Row
from benchmarks.speed.gpu.section_request import SectionRequest
from benchmarks.speed.gpu.step_probe import StepProbe, Stretches
from benchmarks.speed.gpu.training_case import (
    run_training,
    short_recipe,
    store_batches,
    store_detector,
)
from cache.reader import CachedFeatures
from shared.process.device import available_device
from stage2_train.data.loader import default_workers

RECIPES = ("cmt", "frozen_a", "aqr_only")
BATCH_SIZES = (16, 2, 8)  # the most telling first
QUICK_BATCH_SIZES = (2,)
FULL = "32-true"  # for comparison
QUICK = Stretches(warm_up=2, measured=2, profiled=0)


def stretches(is_quick: bool) -> Stretches:
    """Return how many steps a run takes here."""
    if is_quick or available_device().type == "cpu":
        return QUICK
    return Stretches()


def planned_steps(request: SectionRequest) -> Iterator[tuple[str, int, str]]:
    """Yield recipe, batch size and precision of every case, in their order."""
    for batch_size in QUICK_BATCH_SIZES if request.is_quick else BATCH_SIZES:
        for recipe in RECIPES:
            yield recipe, batch_size, request.precision
    for recipe in ("cmt", "frozen_a"):
        yield recipe, 2, FULL


def measure_steps(request: SectionRequest, cases: Cases) -> None:
    """Measure every case."""
    store, workers = CachedFeatures(request.store), default_workers()
    for number, (recipe, batch_size, precision) in enumerate(planned_steps(request)):
        about = {"recipe": recipe, "batch": batch_size, "precision": precision, "workers": workers}
        cases.run(about, partial(_step, request, store, about, number))


def _step(request: SectionRequest, store: CachedFeatures, about: Row, number: int) -> Row:
    recipe = short_recipe(about["recipe"], about["batch"], about["precision"])
    load: Any = partial(store_batches, store, workers=about["workers"])
    probe = StepProbe(stretches(request.is_quick))
    out = request.scratch / f"steps_{number}"
    return run_training(store, store_detector(store, recipe), recipe, out, probe, load)
