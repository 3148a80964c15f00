"""The space a store needs: measured, checked in time, and survived when it runs out."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from cache.coordination.free_space import (
    MARGIN,
    measure_free_space,
    measured_row_bytes,
    require_free_space,
)
from cache.coordination.store import open_store
from cache.format.schema import row_bytes
from cache.reader import CachedFeatures
from cache.storage.directory import DirectoryPath
from cache.verification.verify_store import verify
from shared.errors import CacheError
from tests.cache.conftest import fill, make_writer


def set_free(monkeypatch: pytest.MonkeyPatch, free: float) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=int(free)))


def test_nothing_is_measured_before_the_first_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_writer(tmp_path / "store").store
    set_free(monkeypatch, 1)
    space = require_free_space(store)  # nobody knows yet how well features compress
    assert space.row_bytes is None
    assert space.needed_bytes == 5 * row_bytes(store.arrays)


def test_a_row_is_measured_on_the_finished_shards(begun: Path) -> None:
    store = open_store(begun)
    on_disk = sum(file.stat().st_size for file in begun.rglob("c.0.0*") if file.is_file())
    assert measured_row_bytes(store) == on_disk / 2
    assert measure_free_space(store).rows_left == 3


def test_a_disk_that_cannot_hold_the_rest_is_refused_with_the_margin(
    begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(begun)
    needed = measure_free_space(store).needed_bytes * (1 + MARGIN)
    set_free(monkeypatch, needed + 1)
    require_free_space(store)
    set_free(monkeypatch, needed - 1)
    with pytest.raises(
        CacheError, match=r"cannot hold the rest: 3 rows.*as measured.*margin of 5%.*same command"
    ):
        require_free_space(store)


def test_a_finished_store_needs_nothing(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_free(monkeypatch, 0)
    assert require_free_space(open_store(finished)).needed_bytes == 0


def test_a_damaged_entry_is_named_and_left_out(
    finished: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (finished / "ledger/000001.json").write_text("{")
    assert measured_row_bytes(open_store(finished)) is not None
    assert "000001.json is damaged" in caplog.text
    assert "--repair" in caplog.text


def no_space_in_partials(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk take the first bytes of a file and no more."""
    honest = os.fsync

    def full(descriptor: int) -> None:
        if path.name in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(errno.ENOSPC, "No space left on device")
        honest(descriptor)

    monkeypatch.setattr(os, "fsync", full)


def no_space_for_a_lock(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Path.open

    def full(self: Path, *rest: object, **options: object) -> object:
        if self.suffix == ".lock":
            raise OSError(errno.ENOSPC, "No space left on device")
        return honest(self, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "open", full)


def no_space_for_the_entry(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(DirectoryPath, "create_whole", full)


@pytest.mark.parametrize(
    "fill_up", [no_space_in_partials, no_space_for_a_lock, no_space_for_the_entry]
)
def test_wherever_the_disk_fills_up_no_partial_file_is_left_and_the_store_resumes(
    begun: Path,
    fill_up: Callable[[Path, pytest.MonkeyPatch], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    writer = make_writer(begun)
    with monkeypatch.context() as patch:
        fill_up(begun, patch)
        with pytest.raises(CacheError, match=r"the disk is full at shard 1.*same command again"):
            fill(writer)
    assert not list(begun.rglob("*.partial"))
    assert len(writer.pending()) == 2
    fill(make_writer(begun))
    assert CachedFeatures(begun).is_complete()
    assert not verify(open_store(begun)).damages
