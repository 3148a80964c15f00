"""A run ends with one message on a bad disk, keeps its last good checkpoint, and has one writer."""

import csv
import errno
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from shared.process.whole_file import PARTIAL_SUFFIX
from stage2_train.__main__ import main as train_stage2
from stage2_train.run import event_file
from stage2_train.run.run_files import LOCK
from stage2_train.run.run_folder import RunFolder
from stage2_train.training import distributed
from stage2_train.training.training_step import TrainingStep
from tests.child_processes import PATIENCE_S, hanging
from tests.small_disk import make_read_only, resize, small_disk

RECIPE = """
from stage2_train.recipes.recipe import Recipe
def mine() -> Recipe:
    return Recipe(name="mine", steps=6, batch_size=2, learning_rate=1e-3, checkpoint_every=2)
"""
AMPLE = 2**28
# A run that reports once it takes its first step, and then hangs in the way that its second
# argument names.
HANGING = """
import sys, threading
from shared.process import interrupts
from stage2_train.__main__ import main
from stage2_train.data import loader_threads
from stage2_train.data.dataset import StoreDataset
interrupts.PATIENCE_S = loader_threads.CLOSING_S = 1.0
read, reads = StoreDataset.read, iter(range(100))
def hang(*arguments):
    if next(reads) >= 4:
        print("ready", flush=True)
        threading.Event().wait()
    return read(*arguments)
StoreDataset.read = hang
raise SystemExit(main(sys.argv[1:]))
"""


@pytest.fixture
def recipe(tmp_path: Path) -> list[str]:
    """The options for a run of six steps that saves every other one."""
    (tmp_path / "recipes.py").write_text(RECIPE)
    return ["--recipe", f"{tmp_path / 'recipes.py'}:mine", "--workers", "1"]


def state(run: Path) -> dict[str, Tensor]:
    saved = RunFolder(run).load()
    assert saved is not None
    weights: dict[str, Tensor] = saved["state_dict"]
    return weights


def step_of(run: Path) -> int:
    saved = RunFolder(run).load()
    assert saved is not None
    step: int = saved["step"]
    return step


def error_in(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the only error on stderr."""
    said = capsys.readouterr().err
    assert "Traceback" not in said
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, said
    return errors[0]


def test_a_disk_that_is_full_keeps_the_last_checkpoint_and_the_run_resumes_to_the_same_end(
    tiny_store: Path, recipe: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_stage2([str(tiny_store), "--out", str(tmp_path / "whole"), *recipe]) == 0
    with small_disk(tmp_path / "disk", AMPLE) as disk:
        command = [str(tiny_store), "--out", str(disk / "run"), *recipe]
        assert train_stage2([*command, "--stop-after", "3"]) == 0
        resize(disk, shutil.disk_usage(disk).used + 2**15)
        capsys.readouterr()

        assert train_stage2(command) == 1

        said = error_in(capsys)
        assert "No space left on device; free space on this disk" in said
        assert said.endswith(f"resumes from {disk / 'run' / 'checkpoint.pt'}, which is whole")
        assert step_of(disk / "run") == 3
        assert not list(disk.rglob(f"*{PARTIAL_SUFFIX}"))
        resize(disk, AMPLE)
        assert train_stage2(command) == 0
        whole, run = state(tmp_path / "whole"), state(disk / "run")
        assert all(torch.equal(whole[name], run[name]) for name in whole)


def test_a_disk_without_space_for_anything_is_one_message(
    tiny_store: Path, recipe: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with small_disk(tmp_path / "disk", 2**15) as disk:
        (disk / "filling").write_bytes(b"x" * 2**15)
        assert train_stage2([str(tiny_store), "--out", str(disk), *recipe]) == 1
    assert "No space left on device; free space on this disk" in error_in(capsys)


def test_a_read_only_disk_is_one_message_and_the_checkpoint_stays(
    tiny_store: Path, recipe: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with small_disk(tmp_path / "disk", AMPLE) as disk:
        command = [str(tiny_store), "--out", str(disk / "run"), *recipe]
        assert train_stage2([*command, "--stop-after", "2"]) == 0
        make_read_only(disk)
        capsys.readouterr()
        assert train_stage2(command) == 1
        assert "Read-only file system; choose a place that can be written" in error_in(capsys)
        assert step_of(disk / "run") == 2


@pytest.mark.parametrize(
    ("number", "syncs"), [(errno.ENOSPC, 0), (errno.EIO, 2), (errno.ENOSPC, 5)]
)
def test_wherever_a_disk_fails_the_last_checkpoint_can_be_loaded(
    number: int,
    syncs: int,
    tiny_store: Path,
    recipe: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = [str(tiny_store), "--out", str(tmp_path / "run"), *recipe]
    assert train_stage2([*command, "--stop-after", "1"]) == 0
    capsys.readouterr()
    honest, left = os.fsync, syncs

    def failing(descriptor: int) -> None:
        nonlocal left
        if not left:
            raise OSError(number, os.strerror(number))
        left -= 1
        honest(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", failing)
        assert train_stage2(command) == 1
    assert os.strerror(number) in error_in(capsys)
    assert step_of(tmp_path / "run") in (1, 2)
    assert train_stage2(command) == 0
    assert step_of(tmp_path / "run") == 6


def test_a_full_disk_does_not_hide_why_a_run_failed(
    tiny_store: Path,
    recipe: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    honest = TrainingStep.take

    def bug(step: TrainingStep, *arguments: object) -> object:
        monkeypatch.setattr("os.fsync", full)
        monkeypatch.setattr(event_file.EventFile, "flush", full)
        assert honest is not None
        raise ZeroDivisionError("what the user must see")

    monkeypatch.setattr(TrainingStep, "take", bug)
    with pytest.raises(ZeroDivisionError, match="what the user must see"):
        train_stage2([str(tiny_store), "--out", str(tmp_path / "run"), *recipe])


@pytest.mark.parametrize("file", ["config.json", "checkpoint.pt"])
def test_a_file_of_the_run_without_permission_is_one_message(
    file: str,
    tiny_store: Path,
    recipe: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = [str(tiny_store), "--out", str(tmp_path / "run"), *recipe]
    assert train_stage2([*command, "--stop-after", "1"]) == 0
    capsys.readouterr()
    honest = Path.open

    def denied(path: Path, *arguments: object, **options: object) -> object:
        if path.name == file:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return honest(path, *arguments, **options)  # type: ignore[arg-type, call-overload]

    def denied_bytes(path: Path) -> bytes:
        with denied(path, "rb") as opened:  # type: ignore[attr-defined]
            content: bytes = opened.read()
        return content

    monkeypatch.setattr(Path, "open", denied)
    monkeypatch.setattr(Path, "read_bytes", denied_bytes)
    assert train_stage2(command) == 1
    said = error_in(capsys)
    assert "Permission denied" in said
    assert file in said


@pytest.mark.parametrize("content", [b"", b'{"recipe": {"na', b"\xff\xfe\x00", b"[1, 2]"])
def test_a_torn_config_is_one_message(
    content: bytes,
    tiny_store: Path,
    recipe: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = [str(tiny_store), "--out", str(tmp_path / "run"), *recipe]
    assert train_stage2([*command, "--stop-after", "1"]) == 0
    (tmp_path / "run" / "config.json").write_bytes(content)
    capsys.readouterr()
    assert train_stage2(command) == 1
    said = error_in(capsys)
    assert f"{tmp_path / 'run' / 'config.json'} is damaged: expected a JSON object, got" in said
    assert "restore it from a backup, or choose another --out" in said


@pytest.mark.parametrize("content", [b"", b"step,loss\nxyz,1.0\n", b"loss\n1.0\n", b"\xff\xfe\n"])
def test_a_torn_log_is_one_message_and_moving_it_away_helps(
    content: bytes,
    tiny_store: Path,
    recipe: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    log = tmp_path / "run" / "log.csv"
    command = [str(tiny_store), "--out", str(tmp_path / "run"), *recipe]
    assert train_stage2([*command, "--stop-after", "1"]) == 0
    log.write_bytes(content)
    capsys.readouterr()
    if content:
        assert train_stage2([*command, "--stop-after", "2"]) == 1
        assert f"{log} is damaged" in error_in(capsys)
        log.rename(tmp_path / "moved.csv")
    assert train_stage2([*command, "--stop-after", "3"]) == 0
    with log.open(newline="") as handle:
        assert [row["step"] for row in csv.DictReader(handle)][-1] == "3"


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_torn_checkpoint_is_one_message_that_names_the_kept_ones(
    is_kept: bool,
    tiny_store: Path,
    recipe: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    command = [str(tiny_store), "--out", str(run), *recipe]
    assert train_stage2([*command, "--stop-after", "3" if is_kept else "1"]) == 0
    content = (run / "checkpoint.pt").read_bytes()
    (run / "checkpoint.pt").write_bytes(content[: len(content) // 2])
    capsys.readouterr()
    assert train_stage2(command) == 1
    said = error_in(capsys)
    assert f"the run cannot be resumed: checkpoint {run / 'checkpoint.pt'}" in said
    if not is_kept:
        assert "No earlier checkpoint is kept; choose another --out" in said
        return
    assert "copy it there: checkpoint_step_2.pt" in said
    shutil.copy(run / "checkpoint_step_2.pt", run / "checkpoint.pt")
    assert train_stage2(command) == 0


def test_a_checkpoint_of_another_kind_cannot_be_resumed(
    tiny_store: Path, recipe: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(tiny_store), "--out", str(tmp_path / "run"), *recipe]
    assert train_stage2([*command, "--stop-after", "1"]) == 0
    torch.save({"state_dict": {}}, tmp_path / "run" / "checkpoint.pt")
    capsys.readouterr()
    assert train_stage2(command) == 1
    assert "expected a checkpoint that train-stage2 wrote" in error_in(capsys)


def test_an_out_that_is_a_file_is_refused(
    tiny_store: Path, recipe: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").write_text("kept")
    assert train_stage2([str(tiny_store), "--out", str(tmp_path / "run"), *recipe]) == 1
    assert "run is a file; choose another --out" in error_in(capsys)
    assert (tmp_path / "run").read_text() == "kept"


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def contents_once_still(folder: Path) -> dict[Path, bytes]:
    """Return the files of a folder once nothing has been written there for a second."""
    before, deadline = contents(folder), time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        time.sleep(1)
        now = contents(folder)
        if now == before and not any(path.name.endswith(PARTIAL_SUFFIX) for path in now):
            return now
        before = now
    raise AssertionError(f"{folder} is written to all the time")


def test_a_run_whose_loader_hangs_has_its_folder_to_itself_and_saves_its_steps_at_sigterm(
    tiny_store: Path, recipe: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    command = [str(tiny_store), "--out", str(run), *recipe]
    with hanging(HANGING, *command) as child:
        before = contents_once_still(run)
        assert train_stage2(command) == 1
        assert f"{run} is in use by process {child.pid} on " in error_in(capsys)
        assert contents(run) == before

        started = time.monotonic()
        child.send_signal(signal.SIGTERM)
        _, said = child.communicate(timeout=PATIENCE_S)
        seconds = time.monotonic() - started
    assert child.returncode == 128 + signal.SIGTERM
    assert "the store was being read, and nothing came within 1 s of the signal" in said
    assert "run the same command again to resume" in said
    assert "Traceback" not in said
    assert seconds < 60
    assert step_of(run) > 0
    (run / f".checkpoint.pt.0123{PARTIAL_SUFFIX}").touch()  # as if it had been killed while saving
    assert train_stage2(command) == 0
    assert step_of(run) == 6
    assert not list(run.glob(f".*{PARTIAL_SUFFIX}"))
    assert not (run / LOCK).exists()
    with (run / "log.csv").open(newline="") as handle:
        assert [int(row["step"]) for row in csv.DictReader(handle)] == [1, 2, 3, 4, 5, 6]


def test_more_devices_than_gpus_are_refused(
    tiny_store: Path,
    recipe: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(distributed, "available_device", lambda: torch.device("cuda"))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    command = [str(tiny_store), "--out", str(tmp_path / "run"), *recipe, "--devices", "2"]
    assert train_stage2(command) == 1
    assert "--devices 2: this machine shows 1 GPUs" in error_in(capsys)
