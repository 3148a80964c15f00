"""A sweep starts, follows and ends its processes; these are quick stand-ins."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.errors import InterruptedWorkError, TrainingError
from shared.process.file_lock import lock_file
from stage2_train.recipes.recipe import Recipe
from stage2_train.sweep import run_process
from stage2_train.sweep.run_sweep import device_slots, run_sweep
from stage2_train.sweep.sweep_plan import PlannedRun
from tests.child_processes import running


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_process, "TRAINING", "tests.stage2_train.sweep.fake_training")


def options(recipe: Recipe) -> list[str]:
    return ["store.zarr", "--workers", "3"]


def planned(*names: str) -> list[PlannedRun]:
    return [
        PlannedRun(name=name, recipe=Recipe(name=name, steps=2, batch_size=1)) for name in names
    ]


def sweep(folder: Path, *names: str, slots: int = 1) -> None:
    run_sweep(folder, planned(*names), {"store": "digest"}, options, [{}] * slots)


def starts(folder: Path) -> list[str]:
    return [line.split()[0] for line in (folder / "starts.txt").read_text().splitlines()]


def soon(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_failed_run_does_not_end_the_others_and_only_it_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = ("good-1", "fails-1", "dies-1", "good-2")
    caplog.set_level("INFO")

    with pytest.raises(TrainingError) as failed:
        sweep(tmp_path, *names)

    assert starts(tmp_path) == list(names)
    said = str(failed.value)
    assert said.startswith("2 of 4 runs failed")
    assert "fails-1: it does not fit" in said
    assert "dies-1: ended by SIGKILL" in said
    assert "[1/4] good-1: step 2, loss 1.250" in caplog.text
    assert "[4/4] good-2: finished" in caplog.text
    with pytest.raises(TrainingError):
        sweep(tmp_path, *names)
    assert starts(tmp_path)[4:] == ["fails-1", "dies-1"]


def test_the_reason_of_a_failure_is_that_of_the_last_start(tmp_path: Path) -> None:
    for reason in ("the disk is full", "ValueError: a bug"):
        with pytest.raises(TrainingError, match=f"worsens-1: {reason} "):
            sweep(tmp_path, "worsens-1")


def test_a_process_gets_the_store_its_folder_its_recipe_and_the_options(tmp_path: Path) -> None:
    sweep(tmp_path, "good-1")
    run = tmp_path / "good-1"
    expected = f"training store.zarr --out {run} --recipe {run}/recipe.py:recipe --workers 3\n"
    assert (run / "train.log").read_text() == expected
    assert json.loads((run / "finished.json").read_text())["peak_memory_mb"] > 1


def test_as_many_run_at_a_time_as_there_are_devices(tmp_path: Path) -> None:
    slots = device_slots(None, ["4", "GPU-uuid"])
    names = [f"good-{i}" for i in range(4)]
    run_sweep(tmp_path, planned(*names), {}, options, slots)
    lines = [line.split() for line in (tmp_path / "starts.txt").read_text().splitlines()]
    assert sorted(name for name, _ in lines) == names
    assert {device for _, device in lines} == {"4", "GPU-uuid"}


def test_devices_and_threads_are_divided_among_the_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert device_slots(None, []) == [{}]
    assert device_slots(2, []) == [{"OMP_NUM_THREADS": "4"}] * 2
    gpus = [slot["CUDA_VISIBLE_DEVICES"] for slot in device_slots(3, ["0", "1"])]
    assert gpus == ["0", "1", "0"]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert device_slots(2, []) == [{}, {}]


def test_a_signal_lets_the_runs_save_and_the_same_command_continues(tmp_path: Path) -> None:
    names = ("good-1", "waits-1", "waits-2", "good-2")

    def interrupt() -> None:
        soon(lambda: all((tmp_path / name / "waiting").exists() for name in names[1:3]))
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(InterruptedWorkError) as stopped:
        sweep(tmp_path, *names, slots=2)
    thread.join()

    assert stopped.value.signum == signal.SIGTERM
    assert "1 of 4 runs" in str(stopped.value)
    assert "run the same command again to continue" in str(stopped.value)
    assert all((tmp_path / name / "saved").exists() for name in names[1:3])
    assert starts(tmp_path) == ["good-1", "waits-1", "waits-2"]
    sweep(tmp_path, *names, slots=2)
    assert starts(tmp_path)[3:] == ["waits-1", "waits-2", "good-2"]


KILLED = """
import sys
from pathlib import Path
from stage2_train.recipes.recipe import Recipe
from stage2_train.sweep import run_process
from stage2_train.sweep.run_sweep import run_sweep
from stage2_train.sweep.sweep_plan import PlannedRun
run_process.TRAINING = "tests.stage2_train.sweep.fake_training"
run = PlannedRun(name="waits-1", recipe=Recipe(name="mine", steps=2, batch_size=1))
run_sweep(Path(sys.argv[1]), [run], {}, lambda recipe: ["store.zarr"], [{}])
"""


@pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux tells a process of its parent's end"
)
def test_the_runs_of_a_killed_sweep_save_and_end(tmp_path: Path) -> None:
    with running(KILLED, [tmp_path]) as (child,):
        soon((tmp_path / "waits-1" / "waiting").exists)
        child.kill()
        soon((tmp_path / "waits-1" / "saved").exists)


def test_a_run_that_another_process_still_trains_is_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    (tmp_path / "good-1").mkdir()
    lock = lock_file(tmp_path / "good-1" / ".training.lock", is_patient=False)
    assert lock is not None

    def let_go() -> None:
        soon(lambda: (tmp_path / "good-2" / "finished.json").exists())
        lock.close()

    thread = threading.Thread(target=let_go)
    thread.start()
    sweep(tmp_path, "good-1", "good-2")
    thread.join()
    assert starts(tmp_path) == ["good-2", "good-1"]
    assert caplog.text.count("waiting for another process") == 1
