"""Partial files are looked for where a killed worker may have left them, and nowhere else."""

import contextlib
from pathlib import Path

import pytest

from cache.coordination.ledger import Ledger
from cache.coordination.store import open_store
from cache.storage.directory import DirectoryPath
from tests.cache.conftest import fill, make_writer


@pytest.fixture
def looked_for(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files whose partial files were looked for."""
    names: list[str] = []
    monkeypatch.setattr(DirectoryPath, "remove_partials", lambda self: names.append(self.name))
    return names


def test_an_undisturbed_run_lists_no_folder(tmp_path: Path, looked_for: list[str]) -> None:
    """There are as many files in each as shards: it would take longer than writing."""
    fill(make_writer(tmp_path / "store"))
    assert looked_for == []
    assert not list((tmp_path / "store/ledger").glob("*.lock"))


def test_a_shard_whose_writer_was_killed_is_looked_for_in_every_folder(
    tmp_path: Path, looked_for: list[str]
) -> None:
    writer = make_writer(tmp_path / "store")
    (tmp_path / "store/ledger/000000.lock").touch()
    fill(writer)
    assert len(looked_for) == 1 + len(writer.store.arrays)


def test_a_worker_that_is_killed_while_a_second_one_opens_the_lock_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first holds the lock after the second has looked for its file, and dies inside."""
    make_writer(tmp_path / "store")
    ledger: Ledger = open_store(tmp_path / "store").ledger
    real_exists = DirectoryPath.exists

    def exists_too_late(self: DirectoryPath) -> bool:
        is_there = real_exists(self)
        if self.suffix == ".lock":
            monkeypatch.undo()
            with contextlib.suppress(InterruptedError), ledger.lock(0):
                raise InterruptedError  # leaves the file as a kill does
        return is_there

    monkeypatch.setattr(DirectoryPath, "exists", exists_too_late)
    with ledger.lock(0) as has_partials:
        assert has_partials
