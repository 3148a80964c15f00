"""Let the disk fill up while a store is written: a clear message, nothing incomplete, resumable."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from benchmarks.console_scripts import folder_bytes
from benchmarks.validation.faults.workers import Worker, replay_command
from cache.coordination.store import open_store
from cache.format.metadata import METADATA_FILE
from cache.inspection.content_digest import content_digest
from cache.verification.verify_store import verify
from shared.process.whole_file import PARTIAL_SUFFIX

SHARES = (0.02, 0.3, 0.6, 0.8, 0.9)  # disk size as a share of the finished store's
PROCESSES = 2  # that write, in every second run
ENLARGED = 3  # size of the enlarged disk, in sizes of the finished store
TRIED_BYTES = 2**20  # size of a disk mounted to find out whether mounting works
SYNCS = (0, 1, 17, 30, 45)  # `fsync` calls after which a simulated disk is full
MESSAGES = ("the disk is full", "cannot create")
REMEDY = "same command again"


@dataclass(kw_only=True, slots=True)
class FullDiskResult:
    """What happened at several disk sizes.

    Args:
        method: "tmpfs", or "double" (a simulated disk) where nothing can be mounted.
        points: disks that filled up.
        explained: runs that ended with exit status 1 and a message that says what to do.
        clean: runs that left no incomplete file, and no damage in finished shards.
        resumed: stores that were complete and equal after space was freed.
        failures: what went wrong.
    """

    method: str
    points: int = 0
    explained: int = 0
    clean: int = 0
    resumed: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every point went well."""
        return self.points > 0 and not self.failures


def fill_disks(source: Path, folder: Path, digest: str) -> FullDiskResult:
    """Write the rows of `source` to disks that are too small, then enlarge them."""
    size = folder_bytes(source)
    if not _can_mount(folder):
        return fill_doubles(source, folder, digest)
    result = FullDiskResult(method="tmpfs")
    for share, processes in product(SHARES, (0, PROCESSES)):
        with _tmpfs(folder / "disk", int(size * share)) as disk:
            store = disk / "store.zarr"
            code, said = Worker(replay_command(source, store, processes=processes)).finish()
            _judge(result, f"disk of {share:.0%}, {processes} processes", store, code, said)
            subprocess.run(
                ["mount", "-o", f"remount,size={ENLARGED * size}", str(disk)], check=True
            )
            _resume(result, source, store, digest)
    return result


def fill_doubles(
    source: Path, folder: Path, digest: str, syncs: tuple[int, ...] = SYNCS
) -> FullDiskResult:
    """Do the same without root: the writer's `fsync` reports a full disk."""
    result = FullDiskResult(method="double")
    for after in syncs:
        store = folder / f"full-{after}.zarr"
        command = [*replay_command(source, store), "--full-after", after]
        code, said = Worker(command).finish()
        _judge(result, f"full after {after} syncs", store, code, said)
        _resume(result, source, store, digest)
    return result


def _judge(result: FullDiskResult, point: str, store: Path, code: int, said: str) -> None:
    result.points += 1
    explains = any(message in said for message in MESSAGES) and "Traceback" not in said
    if code == 1 and explains and (REMEDY in said or "cannot create" in said):
        result.explained += 1
    else:
        result.failures.append(f"{point}: exit status {code}, {said.strip()[-300:]}")
    incomplete = [*store.parent.rglob(f"*{PARTIAL_SUFFIX}"), *store.parent.glob(".*.creating-*")]
    is_undamaged = not (store / METADATA_FILE).exists() or not verify(open_store(store)).damages
    if not incomplete and is_undamaged:
        result.clean += 1
    else:
        result.failures.append(
            f"{point}: left {incomplete}; finished shards undamaged: {is_undamaged}"
        )


def _resume(result: FullDiskResult, source: Path, store: Path, digest: str) -> None:
    code, said = Worker(replay_command(source, store)).finish()
    if code == 0 and content_digest(open_store(store), recompute=True) == digest:
        result.resumed += 1
    else:
        result.failures.append(f"not resumed: {said.strip()[-300:]}")


@contextmanager
def _tmpfs(folder: Path, size: int) -> Iterator[Path]:
    """Mount a small disk in memory."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={max(size, 1)}", "tmpfs", str(folder)]
    subprocess.run(mount, check=True, stderr=subprocess.DEVNULL)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _can_mount(folder: Path) -> bool:
    if os.geteuid():
        return False
    try:
        with _tmpfs(folder / "disk", TRIED_BYTES):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False
