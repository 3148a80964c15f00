"""A loader process ends with whoever uses it, whatever either is doing."""

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from itertools import cycle, islice
from pathlib import Path

import pytest

from shared.errors import TrainingError
from stage2_train.data.loader import BatchLoader
from stage2_train.data.loading_options import PROCESS
from stage2_train.data.sampler import Place
from tests.child_processes import PATIENCE_S
from tests.stage2_train.data.copied_store import dataset_of, file_of

# Takes a batch that a process of its own loads, whose number it says after as many seconds as the
# second argument; then ends while there are more batches to take.
USER = """
import sys
import threading
import time
from multiprocessing import active_children
from pathlib import Path
from cache.reader import CachedFeatures
from stage2_train.data.dataset import StoreDataset
from stage2_train.data.loader import BatchLoader
from stage2_train.data.sampler import Place
def report():
    while not active_children():
        time.sleep(0.01)
    print(active_children()[0].pid, flush=True)
if __name__ == "__main__":
    store = CachedFeatures(Path(sys.argv[1]))
    dataset = StoreDataset(store, store.tokens)
    batches = iter(BatchLoader(dataset, [[Place(0, 0)]] * 20, 1, "process"))
    timer = threading.Timer(float(sys.argv[2]), report)
    timer.start()
    next(batches)
    timer.join()
"""
UNGUARDED = """
import sys
from pathlib import Path
from tests.stage2_train.data.copied_store import dataset_of
from stage2_train.data.loader import BatchLoader
from stage2_train.data.sampler import Place
list(BatchLoader(dataset_of(Path(sys.argv[1])), [[Place(0, 0)]], 1, "process"))
"""
SOON_S = 30.0  # a deadline for what takes well under a second on an idle machine


def open_files() -> set[str]:
    with os.scandir("/proc/self/fd") as files:
        return {file.name for file in files}


def is_mapped() -> bool:
    return "memfd:slots" in Path("/proc/self/maps").read_text()


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + SOON_S
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except FileNotFoundError:
            return
        time.sleep(0.02)
    raise AssertionError(f"process {pid} is still there")


def test_a_killed_process_is_an_error_that_says_what_to_do(tiny_store: Path) -> None:
    batches = iter(BatchLoader(dataset_of(tiny_store), cycle([[Place(0, 0)]]), 1, PROCESS))
    next(batches)
    (process,) = multiprocessing.active_children()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(TrainingError, match=r"died \(exit code -9;.*fewer --workers or with --loa"):
        list(islice(batches, 50))
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("how", ["dropped", "closed", "exhausted"])
def test_nothing_is_left_of_an_iterator(tiny_store: Path, how: str) -> None:
    dataset = dataset_of(tiny_store)
    list(BatchLoader(dataset, [[Place(0, 0)]], 1, PROCESS))  # starts Python's resource tracker
    gc.collect()  # errors of earlier tests
    assert not is_mapped()
    before = open_files()
    batches = iter(BatchLoader(dataset, [[Place(0, i % 3)] for i in range(9)], 1, PROCESS))
    next(batches)
    assert multiprocessing.active_children()
    assert is_mapped()
    if how == "closed":
        batches.close()  # type: ignore[attr-defined]
    elif how == "exhausted":
        assert len(list(batches)) == 8
    del batches
    assert not multiprocessing.active_children()
    assert open_files() == before
    assert not is_mapped()


def start_user(store: Path, folder: Path, report_s: float) -> tuple[subprocess.Popen[str], int]:
    """Return a running `USER` and the number of its loader process."""
    script = folder / "user.py"
    script.write_text(USER)
    command = [sys.executable, str(script), str(store), str(report_s)]
    user = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert user.stdout is not None
    return user, int(user.stdout.readline())


def test_a_script_that_the_process_cannot_import_is_told_what_to_do(
    tiny_store: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    script = tmp_path / "user.py"
    script.write_text(UNGUARDED)
    command = [sys.executable, str(script), str(tiny_store)]
    environment = os.environ | {"PYTHONPATH": str(request.config.rootpath)}
    user = subprocess.run(
        command, stderr=subprocess.PIPE, text=True, timeout=PATIENCE_S, env=environment
    )
    assert user.returncode == 1
    assert "could not start; what it wrote above" in user.stderr
    assert 'a file that does its work below `if __name__ == "__main__":`' in user.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_to_all_processes_do_not_end_it(tiny_store: Path, number: signal.Signals) -> None:
    """From its start on."""
    batches = iter(BatchLoader(dataset_of(tiny_store), [[Place(0, 0)]] * 9, 1, PROCESS))
    signalled = []

    def signal_child() -> None:
        while len(signalled) < 20:
            for process in multiprocessing.active_children():
                assert process.pid is not None
                os.kill(process.pid, number)
                signalled.append(process.pid)
            time.sleep(0.05)

    thread = threading.Thread(target=signal_child)
    thread.start()
    next(batches)
    thread.join()
    assert len(list(batches)) == 8
    assert len(signalled) == 20


def test_signals_do_not_end_the_first_child_of_a_program_but_its_end_does(
    tiny_store: Path, tmp_path: Path
) -> None:
    """With the first child, Python starts a process that lifts the mask of signals."""
    user, child = start_user(tiny_store, tmp_path, 0.0)
    with user:
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(child, number)
        assert user.wait(SOON_S) == 0
        wait_until_gone(child)


def hanging(path: Path) -> Path:
    """Return a store with a file whose reading never ends."""
    file = file_of(path, "annotations/labels")
    file.unlink()
    os.mkfifo(file)
    return path


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_everything_while_a_read_hangs(
    copy: Path, tmp_path: Path, number: signal.Signals
) -> None:
    user, child = start_user(hanging(copy), tmp_path, 3.0)
    with user:
        assert Path(f"/proc/{child}").exists()
        user.send_signal(number)
        assert user.wait(SOON_S) != 0
        wait_until_gone(child)
