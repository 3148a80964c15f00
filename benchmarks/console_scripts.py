"""Run this project's commands as a user would, in their own processes, timed."""

import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path


class CommandFailedError(RuntimeError):
    """A command that should have succeeded did not."""


def run_console_script(name: str, *arguments: object) -> tuple[float, str]:
    """Run a console script of this environment; return its duration in seconds and its stdout.

    Args:
        name: e.g. "extract-features", or "python" for this interpreter.
        arguments: its command line.

    Raises:
        CommandFailedError: if its exit status is not 0.
    """
    folder = Path(sys.executable).parent
    program = sys.executable if name == "python" else shutil.which(name, path=str(folder))
    if program is None:
        raise CommandFailedError(f"{name} is not installed in {folder}; run `make env`")
    command = [program, *map(str, arguments)]
    print(f"\n$ {' '.join([name, *map(str, arguments)])}", flush=True)
    started = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    seconds = time.monotonic() - started
    print(done.stdout, end="", flush=True)
    if done.returncode:
        raise CommandFailedError(f"{name} ended with exit status {done.returncode}")
    return seconds, done.stdout


def last_line(text: str) -> str:
    """Return the last line of a command's output, which holds its result."""
    return text.strip().splitlines()[-1]


def folder_bytes(path: Path) -> int:
    """Return the total size of all files below a folder, in bytes."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def print_table(rows: Sequence[tuple[str, str]]) -> None:
    """Print two aligned columns."""
    width = max(len(name) for name, _ in rows)
    print()
    for name, value in rows:
        print(f"{name:<{width}}  {value}")
