"""A step has no operator that would make the host wait for a GPU, counted on the CPU.

What a CPU cannot show is copies between devices; the `gpu` tests do.
"""

import re
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from shared.data.ground_truth import GroundTruth
from shared.model import matcher
from stage2_train.recipes.recipe import Recipe
from stage2_train.recipes.recipes import RECIPES
from stage2_train.training import global_batch
from tests.stage2_train.training.synthetic_batches import random_batch, small, take, training_step

# Operators whose result the host reads, or whose size it has to know. `lift_fresh` ends
# `torch.tensor`, which copies from memory that a GPU cannot read by itself.
WAITING = (
    "_local_scalar_dense",
    "equal",
    "is_nonzero",
    "lift_fresh",
    "masked_select",
    "nonzero",
    "_linalg_check_errors",
    "_unique2",
)
# What works on the host's own tensors.
HOST_WORK = (
    (GroundTruth, "of"),
    (global_batch, "make_denoising_queries"),
    (matcher, "_cheapest_pairs"),
)
# On a CPU, AQR computes with other operators than on a GPU.
UNLIKE_A_GPU = ("shared/model/attention/", "shared/model/aqr/")
INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_")


def _caller() -> str:
    """Return the innermost file of ours, or "" in the backward pass of an operator."""
    frames = traceback.extract_stack()[:-2]
    files = [Path(frame.filename).as_posix() for frame in frames]
    own = [file for file in files if re.search(r"/(shared|stage2_train)/(?!.*site-packages)", file)]
    return re.sub(r".*/(?=(shared|stage2_train)/)", "", own[-1]) if own else ""


class WaitingOperators(TorchDispatchMode):
    """Counts operators that would wait on a GPU, except while `is_on_host`."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.is_on_host = False

    def __torch_dispatch__(
        self,
        function: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = function._schema.name.split("::")[1]
        # Indexing with True and False counts the Trues first.
        has_mask = name in INDEXING and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if not self.is_on_host and (name in WAITING or has_mask):
            self.counts[f"{name} in {_caller()}"] += 1
        return function(*args, **(kwargs or {}))

    def exempt(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, marked as working on the host's own tensors."""

        def exempted(*args: Any, **kwargs: Any) -> Any:
            self.is_on_host = True
            try:
                return work(*args, **kwargs)
            finally:
                self.is_on_host = False

        return exempted


def waiting_operators(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch, *, reads_late: bool = True
) -> list[str]:
    """Return the operators of a second step that would wait; the first one makes constants."""
    step = training_step(recipe, small(), reads_late=reads_late)
    batch = random_batch(small(), (3, 0, 5))
    take(step, batch)
    operators = WaitingOperators()
    for owner, name in HOST_WORK:
        monkeypatch.setattr(owner, name, operators.exempt(getattr(owner, name)))
    with operators:
        take(step, batch, 1)
    return [at for at in operators.counts if not any(place in at for place in UNLIKE_A_GPU)]


@pytest.mark.parametrize("name", ["cmt", "frozen_a", "aqr_only"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_no_operator_of_a_step_waits(
    name: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(RECIPES[name](), batch_size=3, precision=precision)

    assert waiting_operators(recipe, monkeypatch) == []


def test_a_step_that_waits_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """AdamW in many operators, as on a CPU, reads its step count on the host."""
    recipe = replace(RECIPES["cmt"](), batch_size=3, precision="32-true")

    waiting = waiting_operators(recipe, monkeypatch, reads_late=False)

    assert waiting == ["_local_scalar_dense in stage2_train/training/training_step.py"]


def test_every_kind_of_waiting_operator_would_be_counted() -> None:
    operators = WaitingOperators()
    with operators:
        values = torch.arange(3)
        values[values > 1]
        values.sum().item()
        torch.tensor([1.0])

    counted = {at.split()[0]: count for at, count in operators.counts.items()}
    assert counted == {"index": 1, "_local_scalar_dense": 1, "lift_fresh": 1}
