"""An extraction that is killed again and again, at every stage, ends as an undisturbed one."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from cache.__main__ import main as feature_cache
from cache.delta.delta_inspection import delta_content
from cache.storage.location import as_store_path
from stage1_extract.__main__ import main as extract_features
from tests.child_processes import PATIENCE_S, REPOSITORY
from tests.stage1_extract.extraction.delta.conftest import delta_options
from tests.stage1_extract.extraction.test_extract_features import digest, options

POLL_S = 0.002
ROW_PER_SHARD = ["--shard-mib", "1"]

# Forks an extraction for each line of arguments, as each would take seconds to import everything;
# prints its number, then how it ended.
SERVER = """
import gc, json, os, sys
gc.disable()
from stage1_extract.__main__ import main
from stage1_extract.backbones import camera_backbone, lidar_backbone
from stage1_extract.extraction import fill_store
gc.enable()
for line in sys.stdin:
    child = os.fork()
    if not child:
        os.setsid()
        os._exit(main(json.loads(line)))
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class ForkedExtractions:
    """Starts extractions one after the other.

    Args:
        server: runs `SERVER`.
    """

    def __init__(self, server: "subprocess.Popen[str]") -> None:
        self._server = server

    def kill_when(self, new: str, arguments: Sequence[str], store: Path) -> bool:
        """Kill an extraction once it has written such a file; return False if it ended before."""
        assert self._server.stdin is not None
        before = files_of(store, new)
        self._server.stdin.write(json.dumps(arguments) + "\n")
        self._server.stdin.flush()
        process = self._number()
        deadline = time.monotonic() + PATIENCE_S
        while (
            is_running(process) and time.monotonic() < deadline and files_of(store, new) <= before
        ):
            time.sleep(POLL_S)
        with suppress(ProcessLookupError):  # it has ended
            os.killpg(process, signal.SIGKILL)
        return self._number() == -signal.SIGKILL

    def _number(self) -> int:
        assert self._server.stdout is not None
        return int(self._server.stdout.readline())


def files_of(store: Path, pattern: str) -> set[Path]:
    """Return the files and folders of a store that match; none while one of them goes away."""
    with suppress(FileNotFoundError):
        return set(store.rglob(pattern))
    return set()


def is_running(process: int) -> bool:
    """Return whether a process has not ended."""
    return Path(f"/proc/{process}").exists()


@pytest.fixture(scope="module")
def forked() -> Iterator[ForkedExtractions]:
    with subprocess.Popen(
        [sys.executable, "-c", SERVER],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        yield ForkedExtractions(server)


def test_a_store_resumes_to_the_same_content(
    forked: ForkedExtractions,
    synthetic_root: Path,
    tiny_store: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = tmp_path / "killed.zarr"
    arguments = [*options(synthetic_root, store), *ROW_PER_SHARD]
    # It creates the store; has finished a shard; has claimed one; writes its maps; has finished it.
    stages = ("*", "0*.json", "*.claim", "c.*", "0*.json")
    finished: dict[Path, int] = {}
    kills = 0
    for stage in stages:
        kills += forked.kill_when(stage, arguments, store)
        entries = {file: file.stat().st_mtime_ns for file in (store / "ledger").glob("0*.json")}
        assert entries | finished == entries  # finished shards are not computed again
        finished = entries
    assert finished
    assert kills > len(stages) // 2
    assert extract_features(arguments) == 0

    assert digest(store, capsys) == digest(tiny_store, capsys)
    assert feature_cache(["verify", str(store)]) == 0


def test_a_delta_resumes_to_the_same_bits(
    forked: ForkedExtractions, synthetic_root: Path, tiny_store: Path, tmp_path: Path
) -> None:
    stores = tmp_path / "killed", tmp_path / "undisturbed"
    arguments, undisturbed = (
        [*delta_options(synthetic_root, tiny_store, store, "occlusion"), *ROW_PER_SHARD]
        for store in stores
    )
    # It creates the delta; has claimed a shard; writes its maps.
    kills = [forked.kill_when(stage, arguments, stores[0]) for stage in ("*", "*.claim", "c.*")]
    assert sum(kills) > 1
    assert extract_features(arguments) == 0

    assert extract_features(undisturbed) == 0
    digests = [delta_content(as_store_path(store)).digest(recompute=True) for store in stores]
    assert digests[0] == digests[1]
    assert feature_cache(["verify", str(stores[0])]) == 0
