"""What a command of stage 2 and a loader process import before there is work: nothing slow."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.stage2_train.comparison.run_folders import write_run

SLOW = ("torch", "lightning_fabric", "scipy", "matplotlib", "tensorboard")
OURS = ("shared.model", "stage2_train.training", "stage2_train.run.run_folder")
TRAIN, EVALUATE = "stage2_train.__main__", "stage2_train.evaluate"
SWEEP, EXPORT = "stage2_train.sweep_stage2", "stage2_train.export_checkpoint"
COMPARE = "stage2_train.compare_runs"
STORE = "the tiny store"
RECIPE, FIELD = ("--recipe", "frozen_al"), ("--set", "learning_rat=1")

COMMAND = """
import sys
from {command} import main
status = main({arguments!r})
print("imported", *sorted({names!r} & set(sys.modules)))
sys.exit(status)
"""

# As the console script of train-stage2: a loader process imports it under another name. There it
# reports what it has imported by the time that it loads its second batch.
SCRIPT = """
import multiprocessing
import sys
from stage2_train.__main__ import main
if __name__ == "__main__":
    sys.exit(main())
else:
    from stage2_train.data import loader_process
    honest = loader_process.read_ahead
    def reporting(*arguments):
        for number, read in enumerate(honest(*arguments)):
            if number == 1:
                names = sorted({names!r} & set(sys.modules))
                print("imported", multiprocessing.current_process().name, *names, flush=True)
            yield read
    loader_process.read_ahead = reporting
"""


def run(command: Sequence[str]) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run a program; also return the words of the line in which it says what it imported."""
    done = subprocess.run(command, capture_output=True, check=False, timeout=300, text=True)
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("imported")]
    assert len(lines) == 1, done.stderr
    return done, lines[0][1:]


@pytest.mark.parametrize(
    ("command", "arguments", "said"),
    [
        (TRAIN, (STORE, *RECIPE), "did you mean frozen_all"),
        (TRAIN, (STORE, *FIELD), "did you mean learning_rate"),
        (TRAIN, ("nowhere.zarr",), "nowhere.zarr"),
        (TRAIN, (STORE, "--val", "nowhere.zarr"), "nowhere.zarr"),
        (TRAIN, (STORE, "--conditions", "nowhere.zarr"), "nowhere.zarr"),
        (TRAIN, (STORE, "--config", "nowhere.py"), "nowhere.py does not exist"),
        (TRAIN, (STORE, "--checkpoint", "nowhere.pth"), "nowhere.pth does not exist"),
        (TRAIN, (STORE, "--val-conditions", STORE), "name it with --val"),
        (SWEEP, (STORE, *RECIPE), "did you mean frozen_all"),
        (SWEEP, (STORE, *FIELD), "did you mean learning_rate"),
        (SWEEP, ("nowhere.zarr",), "nowhere.zarr"),
        (SWEEP, (STORE, "--val", "nowhere.zarr"), "nowhere.zarr"),
        (EVALUATE, (), "expected a store and a run"),
        (EVALUATE, ("nowhere.zarr", STORE), "nowhere.zarr"),
        (EVALUATE, (STORE, "nowhere"), "nowhere does not exist"),
        (EVALUATE, (STORE, STORE, "--conditions", "nowhere.zarr"), "nowhere.zarr"),
        (EXPORT, ("nowhere",), "nowhere does not exist"),
        (EXPORT, (STORE, "--checkpoint", "nowhere.pth"), "nowhere.pth does not exist"),
        (COMPARE, ("nowhere",), "nowhere is left out: does not exist"),
    ],
)
def test_what_is_mistyped_is_refused_before_anything_slow_is_imported(
    command: str, arguments: Sequence[str], said: str, tiny_store: Path, tmp_path: Path
) -> None:
    words = [str(tiny_store) if word == STORE else word for word in arguments]
    code = COMMAND.format(
        command=command, arguments=[*words, "--out", str(tmp_path / "out")], names={*SLOW, *OURS}
    )
    done, imported = run([sys.executable, "-c", code])
    assert done.returncode == 1
    assert said in done.stderr
    assert imported == []
    assert not (tmp_path / "out").exists()


def test_an_export_over_a_file_is_refused_before_torch_is_imported(tmp_path: Path) -> None:
    arguments = [str(tmp_path), "--out", __file__]
    code = COMMAND.format(command=EXPORT, arguments=arguments, names={*SLOW, *OURS})
    done, imported = run([sys.executable, "-c", code])
    assert done.returncode == 1
    assert f"{__file__} exists and is not overwritten" in done.stderr
    assert imported == []


def test_runs_are_compared_without_torch(tmp_path: Path) -> None:
    runs = [str(write_run(tmp_path / name, scores=(0.5, 0.5))) for name in "ab"]
    code = COMMAND.format(
        command=COMPARE, arguments=[*runs, "--out", str(tmp_path / "out")], names={*SLOW, *OURS}
    )
    done, imported = run([sys.executable, "-c", code])
    assert done.returncode == 0, done.stderr
    assert imported == []


def test_a_loader_process_imports_nothing_that_trains(tiny_store: Path, tmp_path: Path) -> None:
    script = tmp_path / "train-stage2"
    script.write_text(SCRIPT.format(names={"numpy", *SLOW, *OURS}))
    where = [str(tiny_store), "--out", str(tmp_path / "run"), "--recipe", "first_steps"]
    how = ["--stop-after", "4", "--workers", "1", "--loader", "process"]

    done, imported = run([sys.executable, str(script), *where, *how])

    assert done.returncode == 0, done.stderr
    assert imported == ["loader", "numpy"]
