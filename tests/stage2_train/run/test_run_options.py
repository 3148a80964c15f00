"""What the command line changes in a recipe or its samples is part of the run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cache.reader import CachedFeatures
from shared.errors import ConfigError
from stage2_train.__main__ import main as train_stage2
from stage2_train.data.class_balance import class_balance
from stage2_train.data.subset import Share
from stage2_train.evaluation.validation_samples import held_out_note
from stage2_train.sweep_stage2 import main as sweep_stage2
from stage2_train.training.build import train, training_order
from tests.stage2_train.training.test_training import recipe

HALF = ["--samples", "0.5"]  # of three samples, so two


def run(store: Path, out: Path, *options: str) -> int:
    where = [str(store), "--out", str(out), "--recipe", "first_steps"]
    return train_stage2([*where, "--set", "batch_size=1", "--stop-after", "1", *options])


def config(out: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((out / "config.json").read_text())
    return document


def test_a_run_records_overrides_and_subset(tiny_store: Path, tmp_path: Path) -> None:
    words = ["learning_rate=2e-4", "lr_multipliers.img_neck=0.1"]
    settings = [word for setting in words for word in ("--set", setting)]
    assert run(tiny_store, tmp_path / "run", *settings, "--seed", "3", *HALF) == 0

    record = config(tmp_path / "run")
    assert record["overrides"] == ["batch_size=1", *words, "seed=3"]
    assert (record["recipe"]["learning_rate"], record["recipe"]["seed"]) == (2e-4, 3)
    assert ["img_neck", 0.1] in record["recipe"]["lr_multipliers"]
    assert record["subset"]["samples"] == 2
    assert record["subset"]["chosen"] == "0.5 of the samples, seed 0"


def test_a_run_without_options_records_that_there_were_none(
    tiny_store: Path, tmp_path: Path
) -> None:
    train(CachedFeatures(tiny_store), recipe(), tmp_path / "run", stop_after=0)
    assert (config(tmp_path / "run")["subset"], config(tmp_path / "run")["overrides"]) == (None, [])


def test_a_run_is_resumed_with_the_same_recipe_however_it_is_spelt(
    tiny_store: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert run(tiny_store, out, "--set", "learning_rate=2e-4") == 0
    assert run(tiny_store, out, "--set", "learning_rate=0.0002", "--stop-after", "2") == 0
    assert config(out)["overrides"] == ["batch_size=1", "learning_rate=2e-4"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "learning_rate=1e-4"], "recipe.learning_rate (0.0002, now 0.0001)"),
        (["--set", "learning_rate=2e-4", *HALF], "a different subset"),
    ],
)
def test_a_run_is_not_resumed_with_another_recipe_or_subset(
    tiny_store: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    out = tmp_path / "run"
    assert run(tiny_store, out, "--set", "learning_rate=2e-4") == 0
    assert run(tiny_store, out, *options) == 1
    assert message in capsys.readouterr().err


def test_a_run_of_an_older_version_is_resumed(tiny_store: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(CachedFeatures(tiny_store), recipe(), out, stop_after=1)
    document = config(out)
    del document["subset"], document["overrides"]
    (out / "config.json").write_text(json.dumps(document))
    assert train(CachedFeatures(tiny_store), recipe(), out)["steps"] == 6


def test_only_samples_of_the_subset_are_read(
    tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CachedFeatures(tiny_store)
    chosen = store.tokens[1:2]
    (tmp_path / "list.txt").write_text("\n".join(chosen))
    read, honest = set(), CachedFeatures.read_into

    def watched(self: CachedFeatures, maps: Any, token: str, *variants: int | None) -> Any:
        read.add(token)
        return honest(self, maps, token, *variants)

    monkeypatch.setattr(CachedFeatures, "read_into", watched)
    train(store, recipe(steps=3), tmp_path / "run", subset=tmp_path / "list.txt")
    assert read == set(chosen)


def test_classes_are_balanced_within_the_subset(tiny_store: Path) -> None:
    store = CachedFeatures(tiny_store)
    tokens = store.tokens[:2]
    order = training_order(store, recipe(class_balanced=True, batch_size=1), tokens)
    assert order.steps_per_epoch == len(class_balance(store, tokens))
    assert {place.sample for place in order.epoch(0)} <= {0, 1}


def test_an_empty_subset_starts_no_run(tiny_store: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"0\.1 of the 3 samples of .* is none"):
        train(
            CachedFeatures(tiny_store),
            recipe(),
            tmp_path / "run",
            subset=Share(unit="samples", share=0.1),
        )
    assert not (tmp_path / "run").exists()


def test_an_unknown_field_is_refused_with_one_message(
    tiny_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tiny_store, tmp_path / "run", "--set", "learning_rat=1") == 1
    assert "did you mean learning_rate (a number)?" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_seeded_starting_weights_and_a_finished_run_are_announced(
    tiny_store: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    assert run(tiny_store, tmp_path, "--set", "steps=1", "--set", "epochs=none") == 0
    assert "no --checkpoint: necks and head start from seeded weights" in caplog.text
    assert "nothing is left to train" not in caplog.text
    assert run(tiny_store, tmp_path, "--set", "steps=1", "--set", "epochs=none") == 0
    assert "step 1 of 1 is reached: nothing is left to train" in caplog.text


@pytest.mark.parametrize(
    ("dataset", "held_out"),
    [
        ({}, None),
        ({"split": "train", "infos": None}, None),
        ({"split": "mini_train+train_detect", "infos": None}, None),
        ({"split": "val", "infos": None}, "val"),
        ({"split": "mini_train+mini_val", "infos": None}, "mini_val"),
        ({"split": "val+test", "infos": None}, "val and test"),
        ({"split": "val", "infos": "nuscenes_infos_train.pkl"}, None),  # the split does not count
        ({"split": "train", "infos": "nuscenes_infos_val.pkl"}, "val"),
        ({"split": "train", "infos": "infos_test_10sweeps_withvelo.pkl"}, "test"),
        ({"split": "train", "infos": "nuscenes_mini_infos_trainval.pkl"}, "trainval"),
        ({"split": "train", "infos": "evaluation.pkl"}, None),  # no word of its own
    ],
)
def test_a_store_s_splits_for_judging_are_named(
    dataset: dict[str, str | None], held_out: str | None
) -> None:
    note = held_out_note("a.zarr", dataset)
    if held_out is None:
        assert note is None
    else:
        assert note is not None
        assert note.startswith(f"a.zarr holds samples of {held_out}, on which detectors are judged")
        option = "infos" if dataset["infos"] else "split"
        assert f"(it was extracted with --{option} {dataset[option]})" in note


@pytest.mark.parametrize("command", [train_stage2, sweep_stage2])
def test_training_on_a_validation_split_is_said_before_it_starts(
    command: Callable[[list[str]], int],
    tiny_store: Path,
    tiny_val_store: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[object] = []
    for place in ("training.build.train", "sweep.run_sweep.run_sweep"):
        monkeypatch.setattr(f"stage2_train.{place}", lambda *_, **__: started.append(caplog.text))
    for store in (tiny_store, tiny_val_store):
        assert command([str(store), "--out", str(tmp_path), "--recipe", "first_steps"]) == 0
    on_training, on_validation = started
    assert on_training == ""
    assert "tiny_val.zarr holds samples of mini_val" in str(on_validation)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
