"""The fault campaign on a small scale; in full: `python -m benchmarks.validation.faults`."""

import random
from pathlib import Path

import pytest

from benchmarks.validation.faults.flips import damage_files, leave_traces
from benchmarks.validation.faults.full_disk import fill_doubles
from benchmarks.validation.faults.kills import kill_writers
from benchmarks.validation.faults.workers import Worker, replay_command
from cache.coordination.store import open_store
from cache.inspection.content_digest import content_digest
from tests.cache.conftest import fill, make_writer


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished store of five rows."""
    path = tmp_path_factory.mktemp("faults") / "source.zarr"
    fill(make_writer(path))
    return path


@pytest.fixture(scope="module")
def digest(source: Path) -> str:
    return content_digest(open_store(source))


def test_killed_writers_lose_nothing_and_do_nothing_twice(
    source: Path, digest: str, tmp_path: Path
) -> None:
    result = kill_writers(
        lambda store, share: replay_command(source, store, share),
        tmp_path,
        digest=digest,
        writers=2,
        kills=4,
        write_s=0.1,
        random_moments=random.Random(0),
    )
    assert result.passed, result
    assert result.kills >= 4
    assert result.equal == result.stores > 0


def test_damage_is_detected_or_harmless(source: Path) -> None:
    leave_traces(source)
    result = damage_files(source, 60, random.Random(0))
    assert result.passed, result.failures
    assert result.trials == 60


def test_a_full_disk_is_explained_and_survived(source: Path, digest: str, tmp_path: Path) -> None:
    result = fill_doubles(source, tmp_path, digest, syncs=(0, 45))
    assert result.passed, result.failures
    assert (result.explained, result.clean, result.resumed) == (2, 2, 2)


def test_a_worker_that_fails_says_why() -> None:
    code, said = Worker(["benchmarks.validation.nothing"]).finish()
    assert code == 1
    assert "No module named benchmarks.validation.nothing" in said
