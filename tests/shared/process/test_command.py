"""A command ends with one message and a status that says how, whatever the system refuses."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from shared.errors import ConfigError, InterruptedWorkError
from shared.process.command import ending_at_once, run_command
from tests.child_processes import PATIENCE_S, REPOSITORY

SCRIPT = """
import os, sys
from shared.process.command import run_command
def work():
    {work}
sys.exit(run_command(work))
"""
SILENT_END = 128 + signal.SIGPIPE


def command(work: str) -> list[str]:
    """Return a command line that does this piece of Python."""
    return [sys.executable, "-c", SCRIPT.format(work=work)]


def ended(work: str, **streams: object) -> tuple[int, str]:
    """Run it; return its exit status and what it said on stderr."""
    done = subprocess.run(  # type: ignore[call-overload]
        command(work),
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        text=True,
        timeout=PATIENCE_S,
        **streams,
    )
    return done.returncode, done.stderr


def fails_with(error: BaseException) -> object:
    def work() -> None:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (ConfigError("no such preset"), 1, "error: no such preset\n"),
        (InterruptedWorkError("half is kept", 15), 143, "stopped: half is kept\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "runs/a/checkpoint.pt"),
            1,
            "error: runs/a/checkpoint.pt: No space left on device; free space on this disk and "
            "run the same command again\n",
        ),
        (
            OSError(errno.EDQUOT, "Disk quota exceeded", "log.csv"),
            1,
            "error: log.csv: Disk quota exceeded; free space or raise the quota and run the same "
            "command again\n",
        ),
        (
            OSError(errno.EROFS, "Read-only file system", "log.csv"),
            1,
            "error: log.csv: Read-only file system; choose a place that can be written to\n",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "train.zarr/zarr.json"),
            1,
            "error: train.zarr/zarr.json: Permission denied; choose another place, or let this "
            "user read and write there\n",
        ),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "nowhere/a.json"),
            1,
            "error: nowhere/a.json: No such file or directory; check the path\n",
        ),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee"),
            1,
            "error: this needs more memory than the GPU has left: CUDA out of memory. Tried to "
            "allocate 2.00 GiB. End other programs that use this GPU, or choose another with "
            "CUDA_VISIBLE_DEVICES (empty: compute on the CPU), and run the same command again\n",
        ),
    ],
)
def test_what_a_user_can_cause_is_one_message(
    error: Exception, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(fails_with(error)) == status  # type: ignore[arg-type]
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    "error",
    [
        ZeroDivisionError("a bug"),
        RuntimeError("out of memory, but not by torch's error"),
        FileNotFoundError(errno.ENOENT, "without a name"),
        OSError(errno.EINVAL, "Invalid argument", "file"),
        BrokenPipeError(errno.EPIPE, "Broken pipe"),  # of a child process: our own are in order
    ],
)
def test_a_bug_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)):
        run_command(fails_with(error))  # type: ignore[arg-type]


@pytest.mark.parametrize("lines", [1, 100_000])
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_reader_that_has_gone_ends_a_command_silently(lines: int, stream: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    work = f"print('line\\n' * {lines}, file=sys.{stream})"
    if stream == "stdout":
        status, said = ended(work, stdout=writer)
        assert said == ""
    else:
        status = subprocess.run(
            command(work), cwd=REPOSITORY, stderr=writer, timeout=PATIENCE_S, check=False
        ).returncode
    os.close(writer)
    assert status == SILENT_END


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_full_disk_behind_stdout_is_one_message(lines: int) -> None:
    with Path("/dev/full").open("w") as full:
        status, said = ended(f"print('line\\n' * {lines})", stdout=full)
    assert status == 1
    assert said.startswith("error: ")
    assert "No space left on device; free space on this disk" in said
    assert said.count("\n") == 1


def test_the_first_lines_of_a_summary_can_be_looked_at(tiny_store: Path) -> None:
    script = (
        f"from cache.__main__ import main; raise SystemExit(main(['show', {str(tiny_store)!r}]))"
    )
    both = f'{sys.executable} -c "$SCRIPT" | head -n 1; echo ${{PIPESTATUS[0]}}'
    done = subprocess.run(
        ["bash", "-c", both],
        cwd=REPOSITORY,
        env={**os.environ, "SCRIPT": script},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    *_, status = done.stdout.splitlines()
    assert int(status) in (0, SILENT_END)  # 0 if all was in the pipe before its reader had gone
    assert done.stderr == ""


def test_ctrl_c_after_the_imports_is_what_it_was_before() -> None:
    before = signal.getsignal(signal.SIGINT)
    with ending_at_once():
        assert (signal.getsignal(signal.SIGINT) is before) == (
            before is not signal.default_int_handler
        )
    assert signal.getsignal(signal.SIGINT) is before


def test_a_process_that_ignores_ctrl_c_goes_on_ignoring_it() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with ending_at_once():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
