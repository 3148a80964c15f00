"""A sweep of real training runs that is killed twice ends as if it had never been disturbed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.synthetic_nuscenes import SyntheticConfig, write_synthetic_nuscenes
from stage2_train.__main__ import main as train_stage2
from stage2_train.compare_runs import main as compare_runs
from stage2_train.evaluate import main as evaluate_stage2
from stage2_train.sweep import run_process
from stage2_train.sweep_stage2 import main as sweep_stage2
from tests.child_processes import REPOSITORY

PATIENCE_S = 300
RECIPES = """
from stage2_train.recipes.recipe import Recipe
def mine() -> Recipe:
    return Recipe(name="mine", steps=12, batch_size=2, learning_rate=1e-3, checkpoint_every=2)
"""


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    (tmp_path / "recipes.py").write_text(RECIPES)
    return f"{tmp_path / 'recipes.py'}:mine"


def start(command: list[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "stage2_train.sweep_stage2", *command],
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


def soon(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def finished(out: Path) -> set[str]:
    return {file.parent.name for file in out.glob("*/finished.json")}


def started(out: Path) -> set[str]:
    """Return the runs that have taken steps and saved."""
    return {file.parent.name for file in out.glob("*/checkpoint.pt")}


def processes_in(folder: Path) -> list[int]:
    """Return the ids of training processes that were told to train below a folder."""
    ids = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"stage2_train" in words and any(word.startswith(bytes(folder)) for word in words):
            ids.append(int(entry.parent.name))
    return ids


def swept_with_two_kills(command: list[str], out: Path) -> None:
    """Run a sweep, end it by SIGTERM in its first run, by SIGKILL in the second; complete it."""
    sweep = start(command)
    soon(lambda: len(started(out)) == 1)
    sweep.send_signal(signal.SIGTERM)
    _, said = sweep.communicate(timeout=PATIENCE_S)
    assert sweep.returncode == 128 + signal.SIGTERM, said
    assert "run the same command again to continue" in said
    assert processes_in(out) == []

    sweep = start(command)
    soon(lambda: len(finished(out)) == 1 and len(started(out)) == 2)
    sweep.kill()
    sweep.communicate(timeout=PATIENCE_S)
    soon(lambda: processes_in(out) == [])  # they save and end with their parent
    before = {file: file.stat().st_mtime_ns for file in out.glob("*/finished.json")}

    sweep = start(command)
    _, said = sweep.communicate(timeout=PATIENCE_S)
    assert sweep.returncode == 0, said
    assert {file: file.stat().st_mtime_ns for file in before} == before  # none is repeated


def undisturbed_log(store: Path, recipe_of: Path, out: Path) -> bytes:
    options = [str(store), "--out", str(out), "--recipe", f"{recipe_of / 'recipe.py'}:recipe"]
    assert train_stage2([*options, "--workers", "1"]) == 0
    return (out / "log.csv").read_bytes()


def test_two_runs_each_killed_once_end_as_undisturbed_ones(
    tiny_store: Path, recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sweep"
    command = [str(tiny_store), "--recipe", recipe, "--seeds", "2", "--out", str(out)]

    swept_with_two_kills([*command, "--workers", "1"], out)

    assert finished(out) == {"mine-seed0", "mine-seed1"}
    for run in ("mine-seed0", "mine-seed1"):
        expected = undisturbed_log(tiny_store, out / run, tmp_path / "alone" / run)
        assert (out / run / "log.csv").read_bytes() == expected
    capsys.readouterr()
    assert compare_runs([str(out), "--out", str(tmp_path / "compared")]) == 0
    said = capsys.readouterr().out
    assert "mine-seed1" in said
    assert "Over seeds" in said


def test_the_folder_of_a_sweep_refuses_another_store(
    tiny_store: Path,
    tiny_store_8bit: Path,
    recipe: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(run_process, "TRAINING", "tests.stage2_train.sweep.fake_training")
    options = ["--recipe", recipe, "--out", str(tmp_path / "sweep")]
    assert sweep_stage2([str(tiny_store), *options]) == 0
    capsys.readouterr()
    assert sweep_stage2([str(tiny_store_8bit), *options]) == 1
    assert "holds a sweep with a different store (see" in capsys.readouterr().err


def test_places_are_handed_on_to_every_run_and_what_they_hold_is_part_of_the_plan(
    tiny_store: Path,
    tiny_store_8bit: Path,
    recipe: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_process, "TRAINING", "tests.stage2_train.sweep.fake_training")
    checkpoint, out = tmp_path / "start.pt", tmp_path / "sweep"
    checkpoint.write_bytes(b"weights")
    places = ["--checkpoint", str(checkpoint), "--val", str(tiny_store), "--nuscenes", "root"]
    command = [str(tiny_store), "--recipe", recipe, "--out", str(out), "--workers", "1"]

    assert sweep_stage2([*command, *places]) == 0

    said = (out / "mine-seed0" / "train.log").read_text()
    assert said.endswith(f"--workers 1 {' '.join(places)}\n")
    assert sweep_stage2([*command, *places[:3], str(tiny_store_8bit)]) == 1
    checkpoint.write_bytes(b"other weights")
    assert sweep_stage2([*command, *places]) == 1
    assert sweep_stage2([*command, "--checkpoint", str(tmp_path / "absent.pt")]) == 1


def test_a_subset_is_handed_on_to_every_run_and_is_part_of_the_plan(
    tiny_store: Path,
    recipe: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(run_process, "TRAINING", "tests.stage2_train.sweep.fake_training")
    out = tmp_path / "sweep"
    command = [str(tiny_store), "--recipe", recipe, "--out", str(out), "--workers", "1"]
    half = ["--samples", "0.5", "--subset-seed", "3"]

    assert sweep_stage2([*command, *half]) == 0

    assert (out / "mine-seed0" / "train.log").read_text().endswith(f"{' '.join(half)}\n")
    assert json.loads((out / "sweep.json").read_text())["subset"]["chosen"] == (
        "0.5 of the samples, seed 3"
    )
    capsys.readouterr()
    for different in ([], ["--samples", "0.5"], ["--samples", "1"]):
        assert sweep_stage2([*command, *different]) == 1
        assert "holds a sweep with a different subset" in capsys.readouterr().err
    assert sweep_stage2([*command[:3], "--out", str(tmp_path / "none"), "--samples", "0.01"]) == 1
    assert "is none; the smallest share" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_an_unknown_field_is_refused_before_anything_starts(
    tiny_store: Path, recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--recipe", recipe, "--out", str(tmp_path / "sweep"), "--set", "lerning_rate=1,2"]
    assert sweep_stage2([str(tiny_store), *options]) == 1
    assert "did you mean learning_rate" in capsys.readouterr().err
    assert not (tmp_path / "sweep").exists()


@pytest.mark.slow
def test_ten_runs_killed_twice_are_resumed_and_compared(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Set KEEP_COMPARISON to a folder to look at the page."""
    from stage1_extract.__main__ import main as extract_features

    root, store, out = tmp_path / "nuscenes", tmp_path / "tiny.zarr", tmp_path / "sweep"
    config = SyntheticConfig(
        scenes_train=4, scenes_val=1, samples_per_scene=2, azimuth_steps=360, render_stride_px=4
    )
    write_synthetic_nuscenes(root, config, workers=1)
    where = ["--nuscenes", str(root), "--version", "v1.0-mini", "--split", "mini_train"]
    assert extract_features(["tiny", *where, "--store", str(store)]) == 0
    rates = "learning_rate=2e-4,5e-4,1e-3,2e-3,4e-3"
    command = [str(store), "--recipe", recipe, "--set", rates, "--seeds", "2", "--out", str(out)]

    swept_with_two_kills([*command, "--workers", "1"], out)

    assert len(finished(out)) == 10
    for run in sorted(finished(out)):
        options = ["--out", str(out / run / "val"), "--nuscenes", str(root), "--plot", "0"]
        assert evaluate_stage2([str(store), str(out / run), *options]) == 0
    compared = Path(os.environ.get("KEEP_COMPARISON", tmp_path / "compared"))
    capsys.readouterr()
    assert compare_runs([str(out), "--nuscenes", str(root), "--out", str(compared)]) == 0
    said = capsys.readouterr().out
    assert "Differences between settings, over seeds" in said
    assert len((compared / "pairs.csv").read_text().splitlines()) == 1 + 2 * 45
    plan = json.loads((out / "sweep.json").read_text())
    assert len(plan["runs"]) == 10
