"""The orders of strategies, and the page made from their measurements."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.experiments.strategies.convergence import finished, options, orders
from benchmarks.experiments.strategies.convergence_report import what_it_says
from benchmarks.experiments.strategies.live_recipes import finetune_low, live_recipe
from benchmarks.experiments.strategies.measured_run import RESULT, Order, at_scratch_rates
from benchmarks.experiments.strategies.report import write_report
from shared.checkpoint.checkpoint_table import FROZEN_PARTS
from stage2_train.recipes.recipes import NECKS, aqr_only, frozen_a
from tests.pictures import decoded


def test_a_strategys_command_line_says_its_order() -> None:
    order = Order(
        strategy="finetune",
        store=Path("a.zarr"),
        nuscenes=Path("root"),
        out=Path("out"),
        steps=7,
        batch_size=3,
        seed=5,
        checkpoint=Path("cmt.pth"),
        start=Path("run"),
        held_out=None,
        at_scratch_rates=True,
    )

    assert Order.read(order.words()) == order


def test_rates_from_scratch_keep_what_is_frozen_and_the_rates_of_necks_and_backbones() -> None:
    recipe = at_scratch_rates(finetune_low(frozen_a(), with_sparse_encoder=True))

    rates = dict(recipe.lr_multipliers)
    assert recipe.learning_rate == 5e-4
    assert (rates["img_neck"], rates["img_backbone"], rates["transformer"]) == (0.05, 0.01, 2.0)
    assert recipe.frozen == ()


def test_a_live_twin_freezes_what_its_recipe_freezes_and_the_backbones() -> None:
    recipe = live_recipe("live_aqr_only", with_sparse_encoder=False)

    assert recipe.frozen == (*FROZEN_PARTS, *aqr_only().frozen)
    assert set(NECKS) < set(recipe.frozen)
    assert recipe.lr_multipliers == aqr_only().lr_multipliers


@pytest.fixture
def asked() -> list[Order]:
    """Orders of two recipes, two seeds from the store and one of them live."""
    words = ["a.zarr", "--held-out", "b.zarr", "--nuscenes", "root", "--steps", "7"]
    words += ["--recipes", "frozen_b", "aqr_only", "--seeds", "2", "--live-seeds", "1"]
    return orders(options().parse_args(words))


def test_every_recipe_is_trained_live_with_the_first_seeds_of_the_cached_ones(
    asked: list[Order],
) -> None:
    assert [(order.strategy, order.seed) for order in asked] == [
        ("live_frozen_b", 0),
        ("live_aqr_only", 0),
        ("frozen_b", 0),
        ("frozen_b", 1),
        ("aqr_only", 0),
        ("aqr_only", 1),
    ]
    assert len({order.out for order in asked}) == 6
    assert {order.steps for order in asked} == {7}


def test_a_finished_run_is_kept_but_not_for_a_different_order(
    asked: list[Order], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = replace(asked[0], out=tmp_path)
    row = {"strategy": "live_frozen_b", "seed": 0, "mAP": 0.5, "NDS": 0.5, "loss": [1.0]}
    row |= {"steps": 7, "cpu_seconds_per_step": 2.0, "order": order.words()}
    (tmp_path / RESULT).write_text(json.dumps(row))
    again: list[Order] = []
    monkeypatch.setattr(
        "benchmarks.experiments.strategies.convergence.run_strategy",
        lambda order: again.append(order) or {**row, "mAP": 0.25},
    )

    assert finished(order)["mAP"] == 0.5
    others = [replace(order, steps=8), replace(order, start=Path("other_head"))]
    assert [finished(changed)["mAP"] for changed in others] == [0.25, 0.25]
    assert again == others


def test_the_report_puts_live_runs_beside_cached_ones_of_the_same_seed(tmp_path: Path) -> None:
    def run(strategy: str, seed: int, score: float) -> dict[str, object]:
        scores = {"mAP": score, "NDS": 2 * score, "loss": [9.0] * 9 + [3.0]}
        return {"strategy": strategy, "seed": seed, "steps": 10, **scores}

    runs = [run("live_frozen_b", 0, 0.25), run("frozen_b", 0, 0.3), run("frozen_b", 1, 0.2)]
    document = {
        "preset": "tiny",
        "samples": 4,
        "variants": 2,
        "held_out_samples": 3,
        "batch_size": 2,
    }
    document |= {"started_from": "a trained head", "runs": runs}
    document |= {"untrained": {"mAP": 0.0, "NDS": 0.0}, "start": {"mAP": 0.1, "NDS": 0.2}}
    (tmp_path / "convergence_head.json").write_text(json.dumps(document))

    page = write_report(tmp_path, tmp_path).read_text()

    assert (
        "| frozen_b | 10 | 0.3000, 0.2000 | 0.2500 | 0.2500 | -0.0500 | 0.1000 "
        "| 0.6000, 0.4000 | 0.5000 | 3.00, 3.00 | 3.00 |"
    ) in page
    assert "start of all: mAP 0.1000, NDS 0.2000" in page
    assert "frozen_b ends +0.1500 from its start, beyond the range of its seeds (0.1000)." in page
    assert "proves little" not in page
    decoded(tmp_path / "convergence_head.png")


def test_the_report_names_recipes_that_have_not_left_their_start() -> None:
    runs = [
        {"strategy": strategy, "seed": seed, "mAP": score}
        for strategy, scores in (("frozen_a", (0.1, 0.14)), ("aqr_only", (0.102, 0.102)))
        for seed, score in enumerate(scores)
    ]
    said = what_it_says({"runs": runs, "start": {"mAP": 0.1}, "untrained": {"mAP": 0.0}})
    assert said.startswith("**frozen_a, aqr_only: no further from the start than seeds differ")


def test_the_report_compares_time_and_memory_with_the_live_and_the_cached_baseline(
    tmp_path: Path,
) -> None:
    def row(strategy: str, seconds: float, memory: float) -> dict[str, object]:
        pieces = dict.fromkeys(("data", "forward", "backward", "update"), seconds / 4)
        return {
            "strategy": strategy,
            "seconds": pieces,
            "seconds_per_step": seconds,
            "cpu_seconds_per_step": 10 * seconds,
            "peak_memory_mb": memory,
            "trained_parameters": 5,
            "frozen_parameters": 7,
            "frozen_tensors": 3,
            "frozen_tensors_changed": [],
            "loss": [3.0, 2.0],
            "load": 0.5,
        }

    rows = [row("frozen_a", 1, 100), row("live_frozen_a", 2, 200), row("finetune", 3, 500)]
    document = {"preset": "tiny", "samples": 4, "steps": 2, "batch_size": 2, "machine": "this one"}
    document |= {"started_from": "seeded weights", "rates": "of the recipe", "strategies": rows}
    (tmp_path / "strategies_tiny.json").write_text(json.dumps(document))

    page = write_report(tmp_path, tmp_path).read_text()

    (line,) = (line for line in page.splitlines() if line.startswith("| finetune |"))
    assert (
        "| 3 | 0.75 | 0.75 | 0.75 | 0.75 | 30 | 1.50 | 3.00 | 1.5 | 500 | 2.50 | 5.00 | 1.6 |"
        in line
    )
    assert "0 of 3" in line
    decoded(tmp_path / "strategies_tiny.png")
