"""Training under conditions: the same run after a resume, logged by condition, of its deltas."""

import csv
import json
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cache.delta.conditioned_features import ConditionedFeatures
from cache.delta.delta_metadata import ConditionSummary
from cache.delta.open_features import open_delta
from cache.reader import CachedFeatures
from shared.config.classes import CAMERAS, LIDAR
from shared.data.sensor_drop import SensorDrop
from shared.errors import ConfigError
from shared.model.initial_detector import fresh_detector
from stage2_train.__main__ import main as train_stage2
from stage2_train.evaluation.conditions import store_validator
from stage2_train.evaluation.conditions.judging import judge_results
from stage2_train.evaluation.conditions.store_validator import StoreValidator
from stage2_train.evaluation.detections import write_results
from stage2_train.recipes.overrides import override
from stage2_train.recipes.recipe import Recipe
from stage2_train.run.run_progress import Progress
from stage2_train.training.build import train
from tests.cache.delta.small_deltas import plan_of, write_small_delta
from tests.stage2_train.training.test_training import recipe
from tests.stage2_train.training.test_training_aqr import AQR

UNDER = (("beams", 0.4), ("dark", 0.3))


def conditioned() -> Recipe:
    drop = SensorDrop(lidar=0.2, cameras=0.0)
    return replace(recipe(), aqr=AQR, conditions=UNDER, sensor_drop=drop, steps=6)


def write(path: Path, base: CachedFeatures, name: str, sensor: str, **fields: object) -> Path:
    summary = ConditionSummary(name=name, family=name, severity=None, source="a test")
    plan = plan_of(base, {sensor: "rrr"})
    write_small_delta(path, base, plan, name=name, condition=summary, **fields)
    return path


@pytest.fixture(scope="module")
def base(tiny_store: Path) -> CachedFeatures:
    return CachedFeatures(tiny_store)


@pytest.fixture(scope="module")
def paths(base: CachedFeatures, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("deltas")
    return [
        write(folder / "train.beams.zarr", base, "beams", LIDAR),
        write(folder / "train.dark.zarr", base, "dark", CAMERAS[0]),
    ]


@pytest.fixture
def deltas(base: CachedFeatures, paths: list[Path]) -> list[ConditionedFeatures]:
    return [open_delta(path, base) for path in paths]


def rows(run: Path, name: str = "log.csv") -> Iterator[dict[str, str]]:
    with (run / name).open(newline="") as file:
        yield from csv.DictReader(file)


def test_a_resumed_run_with_other_workers_writes_the_same_log(
    base: CachedFeatures, deltas: list[ConditionedFeatures], tmp_path: Path
) -> None:
    train(base, conditioned(), tmp_path / "whole", conditions=deltas)
    train(base, conditioned(), tmp_path / "two", conditions=deltas, stop_after=2, workers=2)
    train(base, conditioned(), tmp_path / "two", conditions=deltas[::-1], workers=1)

    log = (tmp_path / "whole" / "log.csv").read_bytes()
    assert (tmp_path / "two" / "log.csv").read_bytes() == log
    columns = {name for row in rows(tmp_path / "whole") for name in row}
    assert {"aqr/beams/lidar", "aqr/dark/cameras", "aqr/no lidar/lidar"} <= columns
    plain = replace(conditioned(), conditions=())
    train(base, plain, tmp_path / "clean")
    assert (tmp_path / "clean" / "log.csv").read_bytes() != log


def test_a_run_names_its_deltas_and_is_not_resumed_with_different_ones(
    base: CachedFeatures, deltas: list[ConditionedFeatures], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    train(base, conditioned(), run, conditions=deltas, stop_after=1)

    config = json.loads((run / "config.json").read_text())
    assert config["conditions"].keys() == {"beams", "dark"}
    fields = {"condition_identity": {"name": "dark", "family": "dark", "parameters": {"share": 1}}}
    changed = write(tmp_path / "dark.zarr", base, "dark", CAMERAS[0], **fields)
    with pytest.raises(ConfigError, match="holds a run with a different conditions"):
        train(base, conditioned(), run, conditions=[deltas[0], open_delta(changed, base)])
    fewer = replace(conditioned(), conditions=UNDER[:1])
    with pytest.raises(ConfigError, match=r"different .*recipe\.conditions"):
        train(base, fewer, run, conditions=deltas[:1])
    train(base, recipe(), tmp_path / "clean", stop_after=0)
    assert "conditions" not in json.loads((tmp_path / "clean" / "config.json").read_text())


def test_the_command_opens_the_deltas_that_the_recipe_names(
    tiny_store: Path, paths: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [str(tiny_store), "--out", str(tmp_path / "run"), "--recipe", "first_steps"]
    options += ["--set", "steps=1", "--conditions", *map(str, paths)]
    assert train_stage2([*options, "--set", "conditions=beams:0.5"]) == 1
    assert "gives dark no probability" in capsys.readouterr().err
    assert train_stage2([*options, "--set", "conditions=beams:0.5,dark:0.5"]) == 0
    assert train_stage2([*options[:5], "--val-conditions", str(paths[0])]) == 1
    assert "--val-conditions are of a validation store" in capsys.readouterr().err


@pytest.mark.parametrize(
    "pairs", ["beams:0.6,dark:0.6", "beams:0", "beams:-0.1", "beams:0.1,beams:0.1", ":0.5"]
)
def test_what_are_no_probabilities_is_refused(pairs: str) -> None:
    with pytest.raises(ConfigError, match="conditions must be pairs of different names and prob"):
        override(recipe(), [f"conditions={pairs}"])


@pytest.fixture(scope="module")
def val_store(tiny_val_store: Path) -> CachedFeatures:
    return CachedFeatures(tiny_val_store)


@pytest.fixture(scope="module")
def val_delta(
    val_store: CachedFeatures, tmp_path_factory: pytest.TempPathFactory
) -> ConditionedFeatures:
    path = tmp_path_factory.mktemp("deltas") / "val.beams.zarr"
    return open_delta(write(path, val_store, "beams", LIDAR), val_store)


def test_a_validation_under_conditions_is_that_of_their_features(
    base: CachedFeatures,
    val_store: CachedFeatures,
    val_delta: ConditionedFeatures,
    synthetic_root: Path,
    tmp_path: Path,
) -> None:
    detector = fresh_detector(val_store.preset, seed=0).eval()
    options = {"nuscenes_root": synthetic_root, "batch_size": 2}
    both = StoreValidator(val_store, base, conditions=[val_delta], **options)
    alone = [StoreValidator(store, base, **options) for store in (val_store, val_delta)]

    scores = []
    for validator, folder in ((both, "both"), (alone[0], "clean"), (alone[1], "beams")):
        validator.prepare()
        assert validator.batches(is_whole=True) == (4 if validator is both else 2)
        parts = [
            part
            for process in range(3)
            for part in validator.measure(detector, is_whole=True, process=process, processes=3)
        ]
        scores.append(validator.judge(parts, is_whole=True, out=tmp_path / folder))

    joint, clean, beams = scores
    assert {name: joint[name] for name in clean} == clean
    assert {name: joint[f"{name}/beams"] for name in ("loss", "mAP", "NDS")} == {
        name: beams[name] for name in ("loss", "mAP", "NDS")
    }
    assert joint["loss"] != joint["loss/beams"]
    assert joint["mean_NDS"] == (joint["NDS"] + joint["NDS/beams"]) / 2
    for condition, folder in ((".", "clean"), ("beams", "beams")):
        results = (tmp_path / "both" / condition / "results_nusc.json").read_bytes()
        assert results == (tmp_path / folder / "results_nusc.json").read_bytes()
    assert "| beams |" in (tmp_path / "both" / "conditions.md").read_text()
    assert "clean and under beams" in both.statement
    assert both.identity != alone[0].identity
    assert "conditions" not in alone[0].identity


def test_a_condition_is_judged_before_the_next_is_written_and_dropped_once_it_is(
    base: CachedFeatures,
    val_store: CachedFeatures,
    val_delta: ConditionedFeatures,
    synthetic_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    validator = StoreValidator(
        val_store, base, nuscenes_root=synthetic_root, conditions=[val_delta]
    )
    validator.prepare()
    detector = fresh_detector(val_store.preset, seed=0).eval()
    parts = list(validator.measure(detector, is_whole=True, process=0, processes=1))
    waiting = [weakref.ref(boxes.scores) for part in parts for boxes in part.detections.values()]
    done = []

    def noted_write(path: Path, *arguments: Any) -> None:
        done.append(f"write {path.parent.name}, {sum(r() is not None for r in waiting)} wait")
        write_results(path, *arguments)

    def noted_judge(results: Path, *arguments: Any) -> Any:
        done.append(f"judge {results.parent.name}, {sum(r() is not None for r in waiting)} wait")
        return judge_results(results, *arguments)

    monkeypatch.setattr(store_validator, "write_results", noted_write)
    monkeypatch.setattr(store_validator, "judge_results", noted_judge)
    monkeypatch.setattr(store_validator, "default_processes", lambda: 0)
    validator.judge(parts, is_whole=True, out=tmp_path / "val")

    assert parts == []
    assert done == [
        "write val, 6 wait",
        "judge val, 3 wait",
        "write beams, 3 wait",
        "judge beams, 0 wait",
    ]


def test_a_run_is_validated_under_conditions(
    base: CachedFeatures,
    val_store: CachedFeatures,
    val_delta: ConditionedFeatures,
    synthetic_root: Path,
    tmp_path: Path,
) -> None:
    validator = StoreValidator(
        val_store, base, nuscenes_root=synthetic_root, conditions=[val_delta]
    )
    by_mean = replace(recipe(), steps=2, validate_steps=1, best_by="mean_NDS")
    result = train(base, by_mean, tmp_path, validator=validator)

    for row in rows(tmp_path, "validation.csv"):
        assert float(row["NDS/beams"]) >= 0
        assert float(row["mean_NDS"]) >= 0
        assert float(row["loss/beams"]) != float(row["loss"])
    assert result["best/mean_NDS"] is not None
    assert (tmp_path / "validation" / "conditions.md").exists()


def test_the_mean_decides_which_step_is_best() -> None:
    progress = Progress(step=1)
    progress.note_scores({"loss": 1.0, "NDS": 0.9, "mean_NDS": 0.2}, "mean_NDS")
    progress.step = 2
    progress.note_scores({"loss": 1.0, "NDS": 0.1, "mean_NDS": 0.3}, "mean_NDS")
    assert progress.best_step == 2
    progress.step = 3
    progress.note_scores({"loss": 1.0, "NDS": 0.5}, "mean_NDS")  # no conditions: the mean of one
    assert progress.best_step == 3
