"""A validation that is killed is repeated, and two processes validate as one does."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.stage2_train.training.test_distributed import ADDED_UP

# Every batch of the validation has one sample, so that two processes share them: two and one. DIE
# names what to die in after step 4: judging, or the first checkpoint that is written after that.
RECIPE_FILE = """
import os, signal
from dataclasses import replace
import torch
from stage2_train.evaluation.conditions.store_validator import StoreValidator
from tests.stage2_train.training.test_distributed import STILL

StoreValidator.__init__.__kwdefaults__["batch_size"] = 1
judge, save, judged = StoreValidator.judge, torch.save, []

def dying_judge(self, *parts, **options):
    judged.append(parts)
    if os.environ.get("DIE") == "judge" and len(judged) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return judge(self, *parts, **options)

def dying_save(content, file):
    if os.environ.get("DIE") == "save" and len(judged) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    save(content, file)

StoreValidator.judge, torch.save = dying_judge, dying_save

def validated():
    return replace(STILL, name="validated", validate_steps=2, checkpoint_every=3, ema_decay=0.5)
"""


@pytest.fixture(scope="module")
def undisturbed(
    tiny_store: Path,
    tiny_val_store: Path,
    synthetic_root: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    done = run(tiny_store, out, "--val", tiny_val_store, "--nuscenes", synthetic_root)
    assert done.returncode == 0, done.stderr
    assert "validating every 2 steps: loss, mAP and NDS of 3 of the 3 samples" in done.stderr
    return out


def run(store: Path, out: Path, *more: object, die: str = "") -> subprocess.CompletedProcess[str]:
    file = out.parent / "recipe.py"
    file.write_text(RECIPE_FILE)
    options = ["--out", out, "--recipe", f"{file}:validated", *more]
    return subprocess.run(
        [sys.executable, "-m", "stage2_train", str(store), *map(str, options)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"DIE": die, "OMP_NUM_THREADS": str(torch.get_num_threads())},
        timeout=600,
    )


def scores(out: Path) -> list[dict[str, str]]:
    with (out / "validation.csv").open(newline="") as handle:
        table = list(csv.DictReader(handle))
    return [{name: value for name, value in row.items() if name != "seconds"} for row in table]


def best(out: Path) -> dict[str, float]:
    content: dict[str, float] = json.loads((out / "best.json").read_text())
    return {name: value for name, value in content.items() if name != "seconds"}


@pytest.mark.parametrize("where", ["judge", "save"])
def test_a_run_killed_in_or_after_a_validation_resumes_to_the_same_scores(
    tiny_store: Path,
    tiny_val_store: Path,
    synthetic_root: Path,
    undisturbed: Path,
    tmp_path: Path,
    where: str,
) -> None:
    out = tmp_path / "run"
    validation = ("--val", tiny_val_store, "--nuscenes", synthetic_root)

    died = run(tiny_store, out, *validation, die=where)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert [row["step"] for row in scores(out)] == ["2", "4"][: 1 + (where == "save")]
    resumed = run(tiny_store, out, *validation)

    assert resumed.returncode == 0, resumed.stderr
    assert "at step 4" in resumed.stderr  # a kill costs the validation, no step
    assert scores(out) == scores(undisturbed)
    assert best(out) == best(undisturbed)
    assert (out / "log.csv").read_bytes() == (undisturbed / "log.csv").read_bytes()


def test_two_processes_validate_as_one_does(
    tiny_store: Path,
    tiny_val_store: Path,
    synthetic_root: Path,
    undisturbed: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / "run"
    validation = ("--val", tiny_val_store, "--nuscenes", synthetic_root)

    done = run(tiny_store, out, *validation, "--devices", 2)

    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"best/NDS"') == 1  # one of them answers
    assert done.stderr.count("validating every 2 steps") == 1
    assert [row["step"] for row in scores(out)] == ["2", "4", "6"]
    for ours, theirs in zip(scores(out), scores(undisturbed), strict=True):
        assert {name: float(value) for name, value in ours.items()} == pytest.approx(
            {name: float(value) for name, value in theirs.items()}, rel=ADDED_UP
        )


def test_two_processes_have_every_bit_of_the_scores_that_one_gives_the_same_weights(
    tiny_store: Path,
    tiny_val_store: Path,
    synthetic_root: Path,
    undisturbed: Path,
    tmp_path: Path,
) -> None:
    """The run has ended; only its best detector remains to be judged."""
    out = tmp_path / "run"
    shutil.copytree(undisturbed, out)
    shutil.rmtree(out / "validation")
    (out / "best.json").unlink()
    validation = ("--val", tiny_val_store, "--nuscenes", synthetic_root)

    done = run(tiny_store, out, *validation, "--devices", 2)

    assert done.returncode == 0, done.stderr
    assert best(out) == best(undisturbed)
    for name in ("results_nusc.json", "metrics_details.json"):
        judged, expected = (folder / "validation" / name for folder in (out, undisturbed))
        assert judged.read_bytes() == expected.read_bytes()
