"""A disk of a few bytes to mount in a folder, where the system lets us."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """Mount an empty disk in memory; skip the test without the right to mount.

    Args:
        folder: where, created if missing.
        size: bytes.
    """
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no disk can be mounted here: {error}")
    try:
        yield folder
    finally:
        os.sync()
        subprocess.run(["umount", str(folder)], check=True)


def resize(disk: Path, size: int) -> None:
    """Change the size of a mounted disk."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


def make_read_only(disk: Path) -> None:
    """Refuse further writes to a mounted disk, also those of root."""
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
