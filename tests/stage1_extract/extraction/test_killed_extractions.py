"""An extraction that is killed again and again, at every stage, ends as an undisturbed one."""

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from cache.__main__ import main as feature_cache
from cache.delta.delta_inspection import delta_content
from cache.storage.location import as_store_path
from stage1_extract.__main__ import main as extract_features
from tests.child_processes import PATIENCE_S
from tests.forked_command import ForkedCommand, forked
from tests.stage1_extract.extraction.delta.conftest import delta_options
from tests.stage1_extract.extraction.test_extract_features import digest, options

POLL_S = 0.002
ROW_PER_SHARD = ["--shard-mib", "1"]


def files_of(store: Path, pattern: str) -> set[Path]:
    """Return the files and folders of a store that match; none while one of them goes away."""
    with suppress(FileNotFoundError):
        return set(store.rglob(pattern))
    return set()


@pytest.fixture(scope="module")
def forked_extraction() -> Iterator[ForkedCommand]:
    with forked(
        "stage1_extract.__main__",
        "stage1_extract.backbones.camera_backbone",
        "stage1_extract.backbones.lidar_backbone",
        "stage1_extract.extraction.fill_store",
    ) as command:
        yield command


def killed_when(new: str, extraction: ForkedCommand, arguments: Sequence[str], store: Path) -> bool:
    """Kill an extraction once it has written such a file; return False if it ended before."""
    before = files_of(store, new)
    extraction.start(arguments, store.with_name("log"))
    deadline = time.monotonic() + PATIENCE_S
    while (
        extraction.is_running() and time.monotonic() < deadline and files_of(store, new) <= before
    ):
        time.sleep(POLL_S)
    extraction.kill()
    return extraction.wait() == -signal.SIGKILL


def test_a_store_resumes_to_the_same_content(
    forked_extraction: ForkedCommand,
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
        kills += killed_when(stage, forked_extraction, arguments, store)
        entries = {file: file.stat().st_mtime_ns for file in (store / "ledger").glob("0*.json")}
        assert entries | finished == entries  # finished shards are not computed again
        finished = entries
    assert finished
    assert kills > len(stages) // 2
    assert extract_features(arguments) == 0

    assert digest(store, capsys) == digest(tiny_store, capsys)
    assert feature_cache(["verify", str(store)]) == 0


def test_a_delta_resumes_to_the_same_bits(
    forked_extraction: ForkedCommand, synthetic_root: Path, tiny_store: Path, tmp_path: Path
) -> None:
    stores = tmp_path / "killed", tmp_path / "undisturbed"
    arguments, undisturbed = (
        [*delta_options(synthetic_root, tiny_store, store, "occlusion"), *ROW_PER_SHARD]
        for store in stores
    )
    # It creates the delta; has claimed a shard; writes its maps.
    kills = [
        killed_when(stage, forked_extraction, arguments, stores[0])
        for stage in ("*", "*.claim", "c.*")
    ]
    assert sum(kills) > 1
    assert extract_features(arguments) == 0

    assert extract_features(undisturbed) == 0
    digests = [delta_content(as_store_path(store)).digest(recompute=True) for store in stores]
    assert digests[0] == digests[1]
    assert feature_cache(["verify", str(stores[0])]) == 0
