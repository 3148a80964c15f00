"""An evaluation ends with one message on a bad disk, keeps the old result, and has one writer."""

import errno
import json
import math
import os
import signal
import time
from pathlib import Path

import pytest
import torch

from shared.process.autocast import allow_tf32
from shared.process.folder_lock import locked_folder
from shared.process.whole_file import PARTIAL_SUFFIX
from stage2_train.__main__ import main as train_stage2
from stage2_train.evaluate import main as evaluate_stage2
from stage2_train.evaluation.evaluation_folder import LOCK, RECORD
from stage2_train.export_checkpoint import main as export_checkpoint
from tests.child_processes import PATIENCE_S, hanging
from tests.small_disk import make_read_only, small_disk
from tests.stage2_train.run.test_run_faults import error_in

RESULTS = "results_nusc.json"
HANGING = """
import sys, threading
from stage2_train.data import loader_threads
from stage2_train.data.dataset import StoreDataset
from stage2_train.evaluate import main
loader_threads.CLOSING_S = 1.0
def hang(*arguments):
    print("ready", flush=True)
    threading.Event().wait()
StoreDataset.read = hang
raise SystemExit(main(sys.argv[1:]))
"""
# The signal goes to the thread that hangs, so it does not interrupt the wait of the main thread, as
# one does not that arrives between the last instruction there and that wait.
INTERRUPTING = HANGING.replace(
    "    threading.Event().wait()\n",
    "    time.sleep(1)  # until the main thread waits\n"
    "    signal.pthread_kill(threading.get_ident(), signal.SIGINT)\n"
    "    threading.Event().wait()\n",
).replace("import sys, threading", "import signal, sys, threading, time")


@pytest.fixture(scope="module")
def run(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    options = ["--out", str(folder), "--recipe", "first_steps", "--stop-after", "1"]
    assert train_stage2([str(tiny_store), *options]) == 0
    return folder


def test_what_is_evaluated_in_float32_is_not_rounded_to_tf32(
    tiny_store: Path, run: Path, tmp_path: Path
) -> None:
    allow_tf32(True)
    assert evaluate_stage2([str(tiny_store), str(run), "--out", str(tmp_path / "val")]) == 0
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


def test_a_full_disk_keeps_the_old_result(
    tiny_store: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with small_disk(tmp_path / "disk", 2**16) as disk:
        (disk / RESULTS).write_text("of the last evaluation")
        assert evaluate_stage2([str(tiny_store), str(run), "--out", str(disk)]) == 1
        assert {file.name for file in disk.iterdir()} == {RESULTS, RECORD}
        assert (disk / RESULTS).read_text() == "of the last evaluation"
    said = error_in(capsys)
    assert f"{RESULTS}: No space left on device; free space on this disk and run the same" in said


def test_a_read_only_disk_is_one_message(
    tiny_store: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with small_disk(tmp_path / "disk", 2**20) as disk:
        make_read_only(disk)
        assert evaluate_stage2([str(tiny_store), str(run), "--out", str(disk / "val")]) == 1
        assert "Read-only file system; choose a place that can be written" in error_in(capsys)
        assert export_checkpoint([str(run), "--out", str(disk / "a.pth")]) == 1
        assert error_in(capsys)


def test_a_disk_that_fails_during_any_file_is_one_message(
    tiny_store: Path,
    synthetic_root: Path,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = [str(tiny_store), str(run), "--out", str(tmp_path / "val"), "--plot", "0"]
    for syncs in (0, 2, 4):
        honest, left = os.fsync, syncs

        def failing(descriptor: int) -> None:
            nonlocal left
            if not left:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            left -= 1
            honest(descriptor)  # noqa: B023 - used within this turn only

        with monkeypatch.context() as patch:
            patch.setattr("os.fsync", failing)
            assert evaluate_stage2([*command, "--nuscenes", str(synthetic_root)]) == 1
        assert "check the disk, or the network it is reached by" in error_in(capsys)
        assert not list((tmp_path / "val").glob(f".*{PARTIAL_SUFFIX}"))


@pytest.mark.parametrize("branch", ["center", "vel", "cls_logits"])
def test_a_detector_whose_outputs_are_not_finite_is_refused(
    branch: str, tiny_store: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Boxes without a place would be left out without a word."""
    saved = torch.load(run / "checkpoint.pt", weights_only=True)
    names = [name for name in saved["state_dict"] if f"{branch}." in name and "task_h" in name]
    saved["state_dict"][names[-1]].fill_(math.nan)
    torch.save(saved, tmp_path / "damaged.pt")
    command = [str(tiny_store), str(tmp_path / "damaged.pt"), "--out", str(tmp_path / "val")]
    assert evaluate_stage2(command) == 1
    assert "is not finite, or has sizes of 0, so it cannot be evaluated" in error_in(capsys)
    assert not (tmp_path / "val" / "results_nusc.json").exists()


@pytest.mark.parametrize("log_size", [100.0, -110.0])
def test_a_detector_whose_boxes_are_of_no_size_is_refused(
    log_size: float, tiny_store: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = torch.load(run / "checkpoint.pt", weights_only=True)
    names = [name for name in saved["state_dict"] if "dim.3.bias" in name and "task_h" in name]
    saved["state_dict"][names[-1]][::3] = log_size  # of the width, in every layer
    torch.save(saved, tmp_path / "damaged.pt")
    command = [str(tiny_store), str(tmp_path / "damaged.pt"), "--out", str(tmp_path / "val")]
    assert evaluate_stage2(command) == 1
    assert "is not finite, or has sizes of 0, so it cannot be evaluated" in error_in(capsys)


@pytest.mark.parametrize("below", ["", "deeper"])
def test_an_out_that_is_a_file_is_refused(
    below: str,
    tiny_store: Path,
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "val").write_text("kept")
    command = [str(tiny_store), str(run), "--out", str(tmp_path / "val" / below)]
    assert evaluate_stage2(command) == 1
    assert "val is a file; choose another --out" in error_in(capsys)
    assert (tmp_path / "val").read_text() == "kept"


def test_a_second_evaluation_into_a_folder_is_refused(
    tiny_store: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(tiny_store), str(run), "--out", str(tmp_path / "val")]
    with locked_folder(tmp_path / "val", LOCK):
        assert evaluate_stage2(command) == 1
        assert f"val is in use by process {os.getpid()} on " in error_in(capsys)
    (tmp_path / "val" / f".{RESULTS}.0123{PARTIAL_SUFFIX}").touch()  # of one that was killed
    assert evaluate_stage2(command) == 0
    assert {file.name for file in (tmp_path / "val").iterdir()} == {RESULTS, RECORD}


def test_an_unreadable_store_is_one_message(
    tiny_store: Path,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def denied(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", denied)
    assert evaluate_stage2([str(tiny_store), str(run), "--out", str(tmp_path / "val")]) == 1
    said = error_in(capsys)
    assert "Permission denied" in said
    assert str(tiny_store) in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_ends_an_evaluation_whose_loader_hangs(
    number: signal.Signals, tiny_store: Path, run: Path, tmp_path: Path
) -> None:
    command = [str(tiny_store), str(run), "--out", str(tmp_path / "val"), "--workers", "1"]
    with hanging(HANGING, *command) as child:
        started = time.monotonic()
        child.send_signal(number)
        _, said = child.communicate(timeout=PATIENCE_S)
        seconds = time.monotonic() - started
    # SIGTERM keeps its usual effect where nothing needs saving; a shell reports 143 for it, too.
    assert child.returncode in (-number, 128 + number)
    assert "Traceback" not in said
    assert seconds < 60


def test_a_signal_that_does_not_interrupt_the_wait_ends_it_soon(
    tiny_store: Path, run: Path, tmp_path: Path
) -> None:
    command = [str(tiny_store), str(run), "--out", str(tmp_path / "val"), "--workers", "1"]
    with hanging(INTERRUPTING, *command) as child:
        _, said = child.communicate(timeout=PATIENCE_S)
    assert child.returncode == 128 + signal.SIGINT
    assert said.endswith("stopped: run the same command again to resume or start over\n")


def test_an_evaluation_records_whether_its_samples_are_those_of_the_run(
    tiny_store: Path, tiny_val_store: Path, run: Path, tmp_path: Path
) -> None:
    trained_on = json.loads((run / "config.json").read_text())["store"]
    for store, is_same in ((tiny_store, True), (tiny_val_store, False)):
        out = tmp_path / str(is_same)
        assert evaluate_stage2([str(store), str(run), "--out", str(out)]) == 0
        samples = json.loads((out / RECORD).read_text())["samples"]
        assert (samples == trained_on) == is_same
