"""Killed, restarted, or on several processes: it is the same run."""

import csv
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cache.reader import CachedFeatures
from stage2_train.recipes.recipe import Recipe
from stage2_train.run.run_folder import RunFolder
from stage2_train.training.build import train
from stage2_train.training.loss_step import LossInput, LossStep
from tests.forked_command import ForkedCommand

# Of losses and gradient norms of processes or passes that add up, against one that holds the whole
# batch; measured 2e-7. At higher rates rounding grows from step to step, as it does with threads.
ADDED_UP = 1e-5

# BatchNorm is frozen: in train mode its statistics are those of a micro-batch.
STILL = Recipe(
    name="still",
    steps=6,
    batch_size=2,
    learning_rate=1e-6,
    frozen=("pts_neck", "pts_bbox_head.shared_conv"),
    checkpoint_every=2,
)

# The same as a user's recipe file. DIE names the step to die in, or the checkpoint to die in while
# it is half written; of processes started by torchrun, the last dies, once. Every process
# notes the seeds of its dropout in a file of its own.
RECIPE_FILE = """
import os, pathlib, signal
import torch
from stage2_train.training.loss_step import LossStep
from stage2_train.training.training_step import TrainingStep
from tests.stage2_train.training.test_distributed import STILL

kind, _, step_to_die_in = os.environ.get("DIE", "no:-1").partition(":")
is_last = int(os.environ.get("RANK", 0)) == int(os.environ.get("WORLD_SIZE", 1)) - 1
if not is_last or os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0":
    kind = "no"
take, save = TrainingStep.take, torch.save

def dying_take(self, share, whole, step):
    if kind == "step" and step == int(step_to_die_in):
        os.kill(os.getpid(), signal.SIGKILL)
    return take(self, share, whole, step)

def dying_save(content, file):
    save(content, file)
    is_latest = "/.checkpoint.pt." in file.name
    if kind == "save" and is_latest and content["step"] == int(step_to_die_in):
        file.truncate(file.tell() // 2)
        os.kill(os.getpid(), signal.SIGKILL)

forward = LossStep.forward

def noting_forward(self, inputs):
    with (pathlib.Path(__file__).parent / f"{os.getpid()}.seeds").open("a") as file:
        print(torch.initial_seed(), file=file)
    return forward(self, inputs)

TrainingStep.take, torch.save = dying_take, dying_save
LossStep.forward = noting_forward

def still():
    return STILL
"""


@pytest.fixture(scope="module")
def store(tiny_store: Path) -> Path:
    return tiny_store


@pytest.fixture(scope="module")
def undisturbed(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process, the whole batch at once."""
    out = tmp_path_factory.mktemp("whole") / "run"
    train(CachedFeatures(store), STILL, out)
    return out


@pytest.fixture(scope="module")
def two_processes(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("two") / "run"
    done = run([sys.executable, "-m", "stage2_train"], store, out, "--devices", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"steps": 6') == 1  # one of them answers
    return out


def options(store: Path, out: Path) -> list[str]:
    file = out.parent / "recipe.py"
    file.write_text(RECIPE_FILE)
    return [str(store), "--out", str(out), "--recipe", f"{file}:still"]


def run(
    starter: list[str], store: Path, out: Path, *more: str, die: str = "no:-1"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*starter, *options(store, out), *more],
        capture_output=True,
        text=True,
        check=False,
        # As many threads as here: their number decides in which order sums are added up.
        env=os.environ | {"DIE": die, "OMP_NUM_THREADS": str(torch.get_num_threads())},
        timeout=600,
    )


def rows(out: Path) -> list[dict[str, float]]:
    with (out / "log.csv").open(newline="") as handle:
        return [{name: float(v) for name, v in row.items()} for row in csv.DictReader(handle)]


def weights(out: Path) -> dict[str, torch.Tensor]:
    saved = RunFolder(out).load()
    assert saved is not None
    state: dict[str, torch.Tensor] = saved["state_dict"]
    return state


def assert_same_bits(run_folder: Path, expected: Path) -> None:
    assert (run_folder / "log.csv").read_text() == (expected / "log.csv").read_text()
    ours, theirs = weights(run_folder), weights(expected)
    assert ours.keys() == theirs.keys()
    for name, values in theirs.items():
        assert torch.equal(ours[name], values), name


def assert_same_losses(run_folder: Path, expected: Path) -> None:
    assert len(rows(run_folder)) == len(rows(expected)) == STILL.steps
    for ours, theirs in zip(rows(run_folder), rows(expected), strict=True):
        assert ours == pytest.approx(theirs, rel=ADDED_UP)


@pytest.mark.parametrize(
    "where",
    [
        *("step:3", "save:4"),
        *(pytest.param(f"step:{step}", marks=pytest.mark.slow) for step in (1, 2, 4, 5)),
        pytest.param("save:6", marks=pytest.mark.slow),
    ],
)
def test_a_run_killed_anywhere_resumes_to_the_bits_of_an_undisturbed_one(
    store: Path, undisturbed: Path, forked_training: ForkedCommand, tmp_path: Path, where: str
) -> None:
    """In any step but the first; and in the middle of a checkpoint, of which there are three.

    Nothing of the killed process stays in the folder.
    """
    out, log = tmp_path / "run", tmp_path / "log"

    forked_training.start(options(store, out), log, DIE=where)
    assert forked_training.wait() == -signal.SIGKILL, log.read_text()
    train(CachedFeatures(store), STILL, out)

    assert_same_bits(out, undisturbed)
    assert {file.name for file in out.iterdir()} == {file.name for file in undisturbed.iterdir()}


def test_two_processes_have_the_losses_of_one_with_the_double_batch(
    two_processes: Path, undisturbed: Path
) -> None:
    assert_same_losses(two_processes, undisturbed)


def test_two_passes_have_the_losses_of_one_with_the_double_batch(
    store: Path, undisturbed: Path, tmp_path: Path
) -> None:
    train(CachedFeatures(store), replace(STILL, accumulate=2), tmp_path / "run")

    assert_same_losses(tmp_path / "run", undisturbed)


def test_every_pass_of_a_process_draws_its_own_dropout(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, seeds = LossStep.forward, []

    def watched(self: LossStep, inputs: LossInput) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        seeds.append(torch.initial_seed())
        return honest(self, inputs)

    monkeypatch.setattr(LossStep, "forward", watched)

    train(CachedFeatures(store), replace(STILL, accumulate=2), tmp_path / "run", stop_after=3)

    assert len(seeds) == 6
    assert len(used_on_a_cpu(seeds)) == 6


def used_on_a_cpu(seeds: Iterable[int | str]) -> set[int]:
    """Return what torch uses of seeds on a CPU: the last 32 bits."""
    return {int(seed) % 2**32 for seed in seeds}


def test_every_process_draws_its_own_dropout(two_processes: Path) -> None:
    seeds = [file.read_text().split() for file in two_processes.parent.glob("*.seeds")]

    assert [len(of_process) for of_process in seeds] == [STILL.steps, STILL.steps]
    assert len(used_on_a_cpu([*seeds[0], *seeds[1]])) == 2 * STILL.steps


@pytest.mark.parametrize(
    ("processes", "fixture"),
    [("1", "undisturbed"), pytest.param("2", "two_processes", marks=pytest.mark.slow)],
)
def test_torchrun_restarts_a_killed_process_and_the_run_ends_with_the_same_bits(
    store: Path, tmp_path: Path, request: pytest.FixtureRequest, processes: str, fixture: str
) -> None:
    torchrun = ["torch.distributed.run", "--standalone", "--max-restarts=1"]
    torchrun += [f"--nproc-per-node={processes}"]

    done = run(
        [sys.executable, "-m", *torchrun, "-m", "stage2_train"],
        store,
        tmp_path / "run",
        die="step:3",
    )

    assert done.returncode == 0, done.stderr
    assert "exitcode: -9" in done.stderr
    assert "resuming" in done.stderr
    assert_same_bits(tmp_path / "run", request.getfixturevalue(fixture))
