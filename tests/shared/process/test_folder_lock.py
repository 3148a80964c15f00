"""A folder has one writer; its lock vanishes with it."""

import errno
import fcntl
import os
import signal
import socket
from pathlib import Path

import pytest

from shared.errors import ConfigError
from shared.process.folder_lock import locked_folder, make_folder
from tests.child_processes import READY, exit_code, running, wait_until_ready

LOCK = ".some.lock"
HOLD = f"""
import sys
from pathlib import Path
from shared.process.folder_lock import locked_folder
with locked_folder(Path(sys.argv[1]), {LOCK!r}):
    {READY.replace(chr(10), chr(10) + "    ")}
"""


def test_a_second_process_is_told_who_has_the_folder_until_that_one_dies(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with running(HOLD, [out]) as [child]:
        wait_until_ready(child)
        refused = (
            rf"run is in use by process {child.pid} on {socket.gethostname()}; wait until it has "
            r"ended, .* or choose another --out\. Nothing was changed"
        )
        with pytest.raises(ConfigError, match=refused), locked_folder(out, LOCK):
            pytest.fail("two processes were let in")
        child.send_signal(signal.SIGKILL)
        assert exit_code(child) == -signal.SIGKILL
    with locked_folder(out, LOCK):
        assert str(os.getpid()) in (out / LOCK).read_text()
    assert not list(out.iterdir())


def test_locks_of_different_names_do_not_exclude_each_other(tmp_path: Path) -> None:
    with locked_folder(tmp_path, LOCK), locked_folder(tmp_path, ".another.lock"):
        pass


def test_an_error_frees_the_folder(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), locked_folder(tmp_path, LOCK):
        raise KeyboardInterrupt
    with locked_folder(tmp_path, LOCK):
        pass


def test_a_file_system_without_locks_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with locked_folder(tmp_path, LOCK), locked_folder(tmp_path, LOCK):
        pass
    assert "has no locks (NFS without lockd?); make sure that no other process" in caplog.text


@pytest.mark.parametrize("below", ["", "run", "run/deeper"])
def test_a_folder_that_is_a_file_is_refused(below: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(ConfigError, match=r"cannot be a folder: \S*/file is a file; choose"):
        make_folder(tmp_path / "file" / below)
    assert (tmp_path / "file").read_text() == "kept"


def test_a_folder_that_is_a_broken_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"/link is a broken link; choose another --out"):
        make_folder(tmp_path / "link")


@pytest.mark.parametrize("file", ["zarr.json", "delta.json"])
def test_a_store_is_no_folder_for_anything_else(file: str, tmp_path: Path) -> None:
    (tmp_path / file).touch()
    with pytest.raises(ConfigError, match=r"is a feature store, .* choose another --out"):
        make_folder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [file]
