"""Judging beside the detection changes nothing but the time, and ends with the command."""

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from shared.errors import DatasetError
from shared.process.memory.available_memory import available_memory_bytes
from stage2_train.__main__ import main as train_stage2
from stage2_train.evaluate import main as evaluate_stage2
from stage2_train.evaluation.conditions import judging
from stage2_train.evaluation.conditions.judging_processes import (
    MOST,
    JudgingProcesses,
    default_processes,
)
from stage2_train.evaluation.detections import detect
from stage2_train.evaluation.official_metrics import judge
from tests.child_processes import PATIENCE_S, hanging

HANGING = """
import os, sys, threading
from stage2_train.evaluate import main
from stage2_train.evaluation.conditions import judging
parent = os.getpid()
def hang(*arguments):
    assert os.getpid() != parent
    print("ready", flush=True)
    threading.Event().wait()
judging.judge = hang
judging.default_processes = lambda: 2
raise SystemExit(main(sys.argv[1:]))
"""


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    yield
    assert not multiprocessing.active_children()


@pytest.fixture(scope="module")
def run(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    options = ["--out", str(folder), "--recipe", "first_steps", "--stop-after", "1"]
    assert train_stage2([str(tiny_store), *options]) == 0
    return folder


@pytest.fixture
def command(tiny_store: Path, synthetic_root: Path, run: Path, tmp_path: Path) -> list[str]:
    where = ["--out", str(tmp_path / "val"), "--nuscenes", str(synthetic_root), "--plot", "0"]
    return [str(tiny_store), str(run), *where, "--drop", "lidar", "cameras"]


def with_processes(patch: pytest.MonkeyPatch, count: int) -> None:
    patch.setattr(judging, "default_processes", lambda: count)


def without_times(file: Path) -> bytes:
    """Return a file's content without when the evaluation began, and how long the devkit took."""
    time = {"metrics_summary.json": "eval_time", "evaluation.json": "time"}.get(file.name)
    if time is None:
        return file.read_bytes()
    content = json.loads(file.read_text())
    del content[time]
    return json.dumps(content).encode()


def test_files_log_and_output_are_the_same_for_any_number(
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level("INFO")
    for slow in ("plot_curves.plot_curves", "plot_errors.plot_error_map"):  # a sample is enough
        monkeypatch.setattr(f"stage2_train.plots.{slow}", lambda *_: None)
    outcomes = []
    for count in (0, 1, 3):
        with_processes(monkeypatch, count)
        caplog.clear()
        assert evaluate_stage2([*command, "--plot", "1"]) == 0
        out = (tmp_path / "val").rename(tmp_path / str(count))
        files = {
            str(file.relative_to(out)): without_times(file)
            for file in sorted(out.rglob("*"))
            if file.is_file()
        }
        outcomes.append((files, caplog.messages, capsys.readouterr().out))

    assert outcomes[0] == outcomes[1] == outcomes[2]
    files, messages, _ = outcomes[0]
    assert {"conditions.md", "no_cameras/metrics.txt"} <= files.keys()
    assert sum(name.startswith("no_lidar/pictures/errors_") for name in files) == 1
    said = [text.partition(":")[0] for text in messages if ": detecting in" in text]
    assert said == ["clean", "no_lidar", "no_cameras"]


def test_a_condition_is_judged_while_the_next_one_is_detected(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = tmp_path / "second_detection"
    detections = 0

    def noted_detect(*arguments: Any) -> Any:
        nonlocal detections
        detections += 1
        if detections == 2:
            begun.touch()
        return detect(*arguments)

    def judge_after_that(*arguments: Any) -> Any:
        soon(begun.exists)
        return judge(*arguments)

    monkeypatch.setattr(judging, "detect", noted_detect)
    monkeypatch.setattr(judging, "judge", judge_after_that)
    with_processes(monkeypatch, 1)
    assert evaluate_stage2(command) == 0


def soon(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def judging_of(condition: str, failing: Callable[[], Any]) -> Callable[..., Any]:
    """Return the judging of official metrics, with a fault in a condition's."""

    def of_one(results: Path, *arguments: Any) -> Any:
        return failing() if results.parent.name == condition else judge(results, *arguments)

    return of_one


@pytest.mark.parametrize("count", [0, 1, 3])
def test_an_error_of_a_condition_is_one_message_with_its_name(
    count: int,
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "val" / "no_cameras"

    def failing() -> Any:
        raise DatasetError(f"{folder / 'results_nusc.json'}: the lowest score is -1")

    monkeypatch.setattr(judging, "judge", judging_of("no_cameras", failing))
    with_processes(monkeypatch, count)
    assert evaluate_stage2(command) == 1
    said = capsys.readouterr().err
    assert f"error: {folder}/results_nusc.json: the lowest score is -1\n" in said
    assert "Traceback" not in said
    assert not (tmp_path / "val" / "conditions.md").exists()


def test_a_disk_that_is_full_is_one_message_from_a_process_too(
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def failing() -> Any:
        raise OSError(28, "No space left on device", str(tmp_path / "val/no_lidar/metrics.txt"))

    monkeypatch.setattr(judging, "judge", judging_of("no_lidar", failing))
    with_processes(monkeypatch, 1)
    assert evaluate_stage2(command) == 1
    assert "no_lidar/metrics.txt: No space left on device; free" in capsys.readouterr().err


def test_a_bug_keeps_its_traceback_and_names_the_condition(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def buggy() -> Any:
        return [][1]

    monkeypatch.setattr(judging, "judge", judging_of("no_lidar", buggy))
    with_processes(monkeypatch, 2)
    with pytest.raises(IndexError) as raised:
        evaluate_stage2(command)
    (note,) = raised.value.__notes__
    assert note.startswith("In the process that judged no_lidar:\nTraceback")
    assert "in buggy" in note


def test_a_process_that_dies_is_named(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parent = os.getpid()

    def killed() -> Any:
        assert os.getpid() != parent
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(judging, "judge", judging_of("no_cameras", killed))
    with_processes(monkeypatch, 2)
    assert evaluate_stage2(command) == 1
    assert "error: the process that judged no_cameras died (exit code -9)" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_ends_an_evaluation_and_the_processes_that_judge(
    number: signal.Signals, command: list[str]
) -> None:
    with hanging(HANGING, *command) as child:
        started = time.monotonic()
        child.send_signal(number)
        _, said = child.communicate(timeout=PATIENCE_S)  # until no process has its pipes
        seconds = time.monotonic() - started
    assert child.returncode in (-number, 128 + number)
    assert "Traceback" not in said
    assert seconds < 30


def counted(folder: Path, name: str, seconds: float) -> dict[str, Any]:
    """Return the name, and how many others run at the same time."""
    (folder / name).touch()
    time.sleep(seconds)
    running = len(list(folder.iterdir()))
    (folder / name).unlink()
    return {"name": name, "running": running}


@pytest.mark.parametrize(("count", "most"), [(0, 1), (1, 1), (2, 2)])
def test_results_come_in_order_and_no_more_run_at_a_time_than_may(
    count: int, most: int, tmp_path: Path
) -> None:
    with JudgingProcesses(count) as processes:
        for name, seconds in (("a", 1.5), ("b", 0.2), ("c", 0.2), ("d", 0.01)):
            processes.judge(name, partial(counted, tmp_path, name, seconds), 0)
        results = processes.results()
    assert [result["name"] for result in results] == ["a", "b", "c", "d"]
    assert max(result["running"] for result in results) == most


def test_without_memory_for_two_they_run_one_after_the_other(tmp_path: Path) -> None:
    too_much = 2 * available_memory_bytes()
    assert too_much > 2**20
    with JudgingProcesses(3) as processes:
        for name in "abc":
            processes.judge(name, partial(counted, tmp_path, name, 0.3), too_much)
        results = processes.results()
    assert results == [{"name": name, "running": 1} for name in "abc"]


def test_leaving_the_context_by_an_error_ends_what_runs(tmp_path: Path) -> None:
    def interrupted() -> None:
        with JudgingProcesses(2) as processes:
            for name in "ab":
                processes.judge(name, partial(counted, tmp_path, name, PATIENCE_S), 0)
            raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert time.monotonic() - started < PATIENCE_S / 2


@pytest.mark.parametrize(("cores", "expected"), [(1, 0), (2, 1), (4, 3), (64, MOST)])
def test_a_core_is_left_to_the_detection(
    cores: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "stage2_train.evaluation.conditions.judging_processes.available_cores", lambda: cores
    )
    monkeypatch.setattr("sys.platform", "linux")
    assert default_processes() == expected
    monkeypatch.setattr("sys.platform", "darwin")  # a fork may crash there
    assert default_processes() == 0
