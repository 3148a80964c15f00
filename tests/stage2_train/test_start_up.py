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
for arguments in {arguments!r}:
    status = main(arguments)
    print("ended", status, *sorted({names!r} & set(sys.modules)))
    print("ended", file=sys.stderr)
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


# What each command refuses, and a part of what it says.
MISTYPED = {
    TRAIN: (
        ((STORE, *RECIPE), "did you mean frozen_all"),
        ((STORE, *FIELD), "did you mean learning_rate"),
        (("nowhere.zarr",), "nowhere.zarr"),
        ((STORE, "--val", "nowhere.zarr"), "nowhere.zarr"),
        ((STORE, "--conditions", "nowhere.zarr"), "nowhere.zarr"),
        ((STORE, "--config", "nowhere.py"), "nowhere.py does not exist"),
        ((STORE, "--checkpoint", "nowhere.pth"), "nowhere.pth does not exist"),
        ((STORE, "--val-conditions", STORE), "name it with --val"),
    ),
    SWEEP: (
        ((STORE, *RECIPE), "did you mean frozen_all"),
        ((STORE, *FIELD), "did you mean learning_rate"),
        (("nowhere.zarr",), "nowhere.zarr"),
        ((STORE, "--val", "nowhere.zarr"), "nowhere.zarr"),
    ),
    EVALUATE: (
        ((), "expected a store and a run"),
        (("nowhere.zarr", STORE), "nowhere.zarr"),
        ((STORE, "nowhere"), "nowhere does not exist"),
        ((STORE, STORE, "--conditions", "nowhere.zarr"), "nowhere.zarr"),
    ),
    EXPORT: (
        (("nowhere",), "nowhere does not exist"),
        ((STORE, "--checkpoint", "nowhere.pth"), "nowhere.pth does not exist"),
    ),
    COMPARE: ((("nowhere",), "nowhere is left out: does not exist"),),
}


def run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, check=False, timeout=300, text=True)


def run_here(command: str, *lines: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command with each of these lines in one process, which says what it imported."""
    code = COMMAND.format(command=command, arguments=lines, names={*SLOW, *OURS})
    done = run([sys.executable, "-c", code])
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("command", MISTYPED)
def test_what_is_mistyped_is_refused_before_anything_slow_is_imported(
    command: str, tiny_store: Path, tmp_path: Path
) -> None:
    out = ["--out", str(tmp_path / "out")]
    lines = [
        [*(str(tiny_store) if word == STORE else word for word in words), *out]
        for words, _ in MISTYPED[command]
    ]
    done = run_here(command, *lines)

    ends = [line for line in done.stdout.splitlines() if line.startswith("ended")]
    assert ends == ["ended 1"] * len(lines)
    for (_, expected), said in zip(MISTYPED[command], done.stderr.split("ended\n"), strict=False):
        assert expected in said
    assert not (tmp_path / "out").exists()


def test_an_export_over_a_file_is_refused_before_torch_is_imported(tmp_path: Path) -> None:
    done = run_here(EXPORT, [str(tmp_path), "--out", __file__])
    assert f"{__file__} exists and is not overwritten" in done.stderr
    assert done.stdout.splitlines()[-1] == "ended 1"


def test_runs_are_compared_without_torch(tmp_path: Path) -> None:
    runs = [str(write_run(tmp_path / name, scores=(0.5, 0.5))) for name in "ab"]
    done = run_here(COMPARE, [*runs, "--out", str(tmp_path / "out")])
    assert done.stdout.splitlines()[-1] == "ended 0"


def test_a_loader_process_imports_nothing_that_trains(tiny_store: Path, tmp_path: Path) -> None:
    script = tmp_path / "train-stage2"
    script.write_text(SCRIPT.format(names={"numpy", *SLOW, *OURS}))
    where = [str(tiny_store), "--out", str(tmp_path / "run"), "--recipe", "first_steps"]
    how = ["--stop-after", "2", "--workers", "1", "--loader", "process"]

    done = run([sys.executable, str(script), *where, *how])

    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("imported")]
    assert lines == ["imported loader numpy"]
