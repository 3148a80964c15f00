"""A validation that is killed is repeated, and two processes validate as one does."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from cache.reader import CachedFeatures
from stage2_train.evaluation.conditions.store_validator import StoreValidator
from stage2_train.training.build import train
from tests.forked_command import ForkedCommand
from tests.stage2_train.training.test_distributed import ADDED_UP, STILL

# Every batch of the validation has one sample, so that two processes share them: two and one. DIE
# names what to die in after step 4: judging, or the first checkpoint that is written after that.
RECIPE_FILE = """
import os, signal
import torch
from stage2_train.evaluation.conditions.store_validator import StoreValidator
from tests.stage2_train.training.test_validation_processes import VALIDATED

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
    return VALIDATED
"""
VALIDATED = replace(STILL, name="validated", validate_steps=2, checkpoint_every=3, ema_decay=0.5)


@dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """What to train on, and to validate on."""

    store: Path
    val: Path
    root: Path

    def options(self, out: Path) -> list[str]:
        """Return the options of a training with a recipe file beside it."""
        file = out.parent / "recipe.py"
        file.write_text(RECIPE_FILE)
        options = [self.store, "--out", out, "--recipe", f"{file}:validated"]
        return [*map(str, options), "--val", str(self.val), "--nuscenes", str(self.root)]

    def train_here(self, out: Path) -> None:
        """Train in this process."""
        store, val = CachedFeatures(self.store), CachedFeatures(self.val)
        validator = StoreValidator(val, store, nuscenes_root=self.root, batch_size=1)
        train(store, VALIDATED, out, validator=validator)


@pytest.fixture(scope="module")
def places(tiny_store: Path, tiny_val_store: Path, synthetic_root: Path) -> Places:
    return Places(store=tiny_store, val=tiny_val_store, root=synthetic_root)


@pytest.fixture(scope="module")
def undisturbed(places: Places, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    places.train_here(out)
    return out


@pytest.fixture(scope="module")
def two_processes(places: Places, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("two") / "run"
    done = subprocess.run(
        [sys.executable, "-m", "stage2_train", *places.options(out), "--devices", "2"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"best/NDS"') == 1  # one of them answers
    said = "validating every 2 steps: loss, mAP and NDS of 3 of the 3 samples"
    assert done.stderr.count(said) == 1
    return out


def scores(out: Path) -> list[dict[str, str]]:
    with (out / "validation.csv").open(newline="") as handle:
        table = list(csv.DictReader(handle))
    return [{name: value for name, value in row.items() if name != "seconds"} for row in table]


def best(out: Path) -> dict[str, float]:
    content: dict[str, float] = json.loads((out / "best.json").read_text())
    return {name: value for name, value in content.items() if name != "seconds"}


@pytest.mark.parametrize("where", ["judge", "save"])
def test_a_run_killed_in_or_after_a_validation_resumes_to_the_same_scores(
    places: Places,
    undisturbed: Path,
    forked_training: ForkedCommand,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    where: str,
) -> None:
    caplog.set_level("INFO")
    out, log = tmp_path / "run", tmp_path / "log"

    forked_training.start(places.options(out), log, DIE=where)
    assert forked_training.wait() == -signal.SIGKILL, log.read_text()
    assert [row["step"] for row in scores(out)] == ["2", "4"][: 1 + (where == "save")]
    places.train_here(out)

    assert "at step 4" in caplog.text  # a kill costs the validation, no step
    assert scores(out) == scores(undisturbed)
    assert best(out) == best(undisturbed)
    assert (out / "log.csv").read_bytes() == (undisturbed / "log.csv").read_bytes()


def test_two_processes_validate_as_one_does(two_processes: Path, undisturbed: Path) -> None:
    assert [row["step"] for row in scores(two_processes)] == ["2", "4", "6"]
    for ours, theirs in zip(scores(two_processes), scores(undisturbed), strict=True):
        assert {name: float(value) for name, value in ours.items()} == pytest.approx(
            {name: float(value) for name, value in theirs.items()}, rel=ADDED_UP
        )


def test_two_processes_have_every_bit_of_the_scores_that_one_gives_the_same_weights(
    places: Places, two_processes: Path, tmp_path: Path
) -> None:
    """The run has ended; only its best detector is judged again, by one process."""
    out = tmp_path / "run"
    shutil.copytree(two_processes, out)
    shutil.rmtree(out / "validation")
    (out / "best.json").unlink()

    places.train_here(out)

    assert best(out) == best(two_processes)
    for name in ("results_nusc.json", "metrics_details.json"):
        judged, expected = (folder / "validation" / name for folder in (out, two_processes))
        assert judged.read_bytes() == expected.read_bytes()
