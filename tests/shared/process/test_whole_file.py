"""A file is complete or absent, and two writers never share what is not complete yet."""

import errno
import os
from pathlib import Path

import pytest
import torch

from shared.errors import CacheError
from shared.process.whole_file import remove_partials, whole_file
from tests.small_disk import small_disk

TOO_LARGE = torch.zeros(10**6)


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    with whole_file(path, "w") as first:
        with whole_file(path, "w") as second:
            first.write("first")
            second.write("2nd")
        assert path.read_text() == "2nd"
    assert path.read_text() == "first"
    assert os.listdir(tmp_path) == ["results.json"]  # noqa: PTH208


def test_a_full_disk_is_reported_with_the_file_and_keeps_the_old_one(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 2**20) as disk:
        path = disk / "checkpoint.pt"
        path.write_text("the last one")
        with pytest.raises(OSError, match="No space left") as full, whole_file(path) as file:
            torch.save({"weights": TOO_LARGE}, file)  # which by itself raises a RuntimeError
        assert (full.value.errno, full.value.filename) == (errno.ENOSPC, str(path))
        assert [file.name for file in disk.iterdir()] == ["checkpoint.pt"]
        assert path.read_text() == "the last one"


def test_a_disk_that_reports_at_the_end_that_it_is_full_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_text("the last one")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    full_at = r"No space left on device: '.*checkpoint\.pt'$"
    with pytest.raises(OSError, match=full_at) as error, whole_file(path) as file:
        file.write(b"the next one")
    assert error.value.filename == str(path)
    assert path.read_text() == "the last one"
    assert len(list(tmp_path.iterdir())) == 1


def test_an_error_of_the_writer_is_its_own(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="not of the disk"), whole_file(tmp_path / "file"):
        raise RuntimeError("not of the disk")
    assert not list(tmp_path.iterdir())


def test_a_store_that_cannot_be_read_is_not_a_fault_of_the_file(tmp_path: Path) -> None:
    fault = CacheError("the store is away")
    fault.__context__ = OSError(errno.EIO, os.strerror(errno.EIO))
    with pytest.raises(CacheError, match="the store is away"), whole_file(tmp_path / "file"):
        raise fault
    assert not list(tmp_path.iterdir())


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (".a[1].pt.0123.partial", ".b.pt.0123.partial", "a[1].pt", ".a.pt.partial"):
        (tmp_path / name).touch()
    remove_partials(tmp_path, "b.pt")
    remove_partials(tmp_path, "a[[]1].pt")
    assert {path.name for path in tmp_path.iterdir()} == {"a[1].pt", ".a.pt.partial"}
