"""`feature-cache verify` from end to end: it finds damage, resumes, and repairs."""

import errno
import json
import os
import shutil
import signal
import threading
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import cache.verification.verify_store
from cache.__main__ import main
from cache.coordination.null_store import null_path
from cache.coordination.store import Store, open_store
from cache.format.statistics import Statistics
from cache.reader import CachedFeatures
from cache.storage.directory import DirectoryPath
from cache.verification.check_rows import Damage, shard_damage
from cache.verification.verify_store import verify
from shared.digests import json_digest
from tests.cache.conftest import (
    command_of,
    fill,
    fill_null,
    make_null_writer,
    make_writer,
)


def damage_shard(store: Path, index: int) -> None:
    file = store / f"lidar/stride8/c.0.{index}.0.0.0"
    content = bytearray(file.read_bytes())
    content[9] ^= 1
    file.write_bytes(content)


def rewrite_entry(store: Path, shard: int, **changes: Any) -> None:
    """Change a ledger entry and give it a checksum that fits."""
    file = store / f"ledger/{shard:06d}.json"
    document = json.loads(file.read_text()) | changes
    del document["checksum"]
    file.write_text(json.dumps({**document, "checksum": json_digest(document)}))


@pytest.fixture
def interrupted(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Path:
    """A finished store whose verification got SIGTERM while it read the last of three shards."""

    def honest_until_the_last(store: Store, shard: int, stop: threading.Event) -> list[Damage]:
        if shard == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            stop.wait(10)
        return shard_damage(store, shard, stop)

    with monkeypatch.context() as patch:
        patch.setattr(cache.verification.verify_store, "shard_damage", honest_until_the_last)
        assert main(["verify", str(finished), "--workers", "1"]) == 128 + signal.SIGTERM
    assert "4 rows of 3 shards were read, no damage so far; the same command resumes" in (
        capsys.readouterr().err
    )
    return finished


def test_an_interrupted_verification_resumes_where_it_stopped(
    interrupted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(interrupted)]) == 0
    printed = capsys.readouterr().out
    assert "5 of 5 rows are complete (1 read now, 4 since 20" in printed
    assert main(["verify", str(interrupted)]) == 0  # the last one ended: this one reads everything
    assert "5 of 5 rows are complete and were read again" in capsys.readouterr().out


def test_anew_reads_everything(interrupted: Path) -> None:
    assert verify(open_store(interrupted), anew=True).rows_read == 5


def test_a_checked_shard_is_read_again_when_its_ledger_entry_has_changed(interrupted: Path) -> None:
    rewrite_entry(interrupted, 0, write_seconds=9.0)
    assert verify(open_store(interrupted)).rows_read == 3


def test_a_copy_is_read_whatever_was_read_of_the_original(
    interrupted: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(interrupted, tmp_path / "copy.zarr")
    assert verify(open_store(copy)).rows_before == 0
    shutil.copytree(interrupted, tmp_path / "again.zarr")
    shutil.rmtree(interrupted)
    (tmp_path / "again.zarr").rename(interrupted)  # another folder in the same place
    assert verify(open_store(interrupted)).rows_before == 0


def test_a_store_is_the_same_by_a_link_and_in_another_working_directory(
    interrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link.zarr").symlink_to(interrupted)
    monkeypatch.chdir(tmp_path)
    assert verify(open_store(Path("link.zarr"))).rows_before == 4


def test_what_was_read_as_part_of_another_store_is_read_again(
    interrupted: Path, tmp_path: Path
) -> None:
    make_writer(tmp_path / "other.zarr", precision="of another checkpoint")
    shutil.copy(tmp_path / "other.zarr/zarr.json", interrupted / "zarr.json")
    assert verify(open_store(interrupted)).rows_before == 0


def test_a_damaged_record_is_ignored(interrupted: Path, caplog: pytest.LogCaptureFixture) -> None:
    record = interrupted / "ledger/verified.json"
    record.write_text(record.read_text().replace("20", "21", 1))
    assert verify(open_store(interrupted)).rows_read == 5
    assert "verified.json is damaged (its checksum does not match)" in caplog.text


def test_no_flipped_bit_of_the_record_makes_a_shard_count_as_read(interrupted: Path) -> None:
    record = interrupted / "ledger/verified.json"
    whole = record.read_bytes()
    for byte in range(0, len(whole), 3):
        content = bytearray(whole)
        content[byte] ^= 1 << (byte % 8)
        record.write_bytes(content)
        assert verify(open_store(interrupted)).rows_read in (1, 5)
        record.write_bytes(whole)


def test_a_store_that_cannot_be_written_can_be_verified(
    finished: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    damage_shard(finished, 1)
    monkeypatch.setattr(DirectoryPath, "write_whole", refuse)
    assert len(verify(open_store(finished)).damages) == 1
    assert "a verification that is stopped starts over" in caplog.text


@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_workers_changes_nothing(finished: Path, workers: int) -> None:
    for shard in (0, 2):
        damage_shard(finished, shard)
    damages = verify(open_store(finished), workers=workers).damages
    assert sorted(damage.shard or 0 for damage in damages) == [0, 2]


def test_repair_drops_the_damaged_shard_and_the_next_extraction_rebuilds_just_that(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage_shard(finished, 1)
    assert main(["verify", str(finished), "--repair"]) == 1
    printed = capsys.readouterr().out
    assert "000001.json (now *.damaged)" in printed
    assert f"Rebuild these shards with: {command_of(finished)}" in printed
    assert (finished / "ledger/000001.damaged").exists()
    assert CachedFeatures(finished).missing() == ("cow", "dog")

    writer = make_writer(finished)
    assert [shard.index for shard in writer.pending()] == [1]
    fill(writer)

    assert not (finished / "ledger/000001.damaged").exists()
    outcome = verify(open_store(finished))
    assert (outcome.rows_read, outcome.rows_before) == (2, 3)  # only the rebuilt shard is read
    assert not outcome.damages


def test_repair_after_an_ordinary_verification_reads_only_the_damaged_shards(
    finished: Path,
) -> None:
    damage_shard(finished, 1)
    verify(open_store(finished))
    outcome = verify(open_store(finished), repair=True)
    assert (outcome.rows_read, [entry.name for entry in outcome.dropped]) == (2, ["000001.json"])


def test_repair_moves_an_entry_of_no_shard_aside(finished: Path) -> None:
    (finished / "ledger/000009.json").write_text("{}")
    entry = finished / "ledger/000009.json"
    assert verify(open_store(finished), repair=True).dropped == [entry]
    assert not verify(open_store(finished)).damages


def test_repair_leaves_alone_an_entry_that_another_worker_has_replaced(
    finished: Path,
) -> None:
    ledger = open_store(finished).ledger
    before = ledger.fingerprint(1)
    rewrite_entry(finished, 1, write_seconds=9.0)
    assert ledger.drop(1, before) is False
    assert ledger.drop(1, ledger.fingerprint(1)) is True
    assert ledger.drop(1, before) is False  # there is none any more


def test_damage_that_cannot_be_repaired_is_reported(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (finished / "lidar/stride8/zarr.json").unlink()
    assert main(["verify", str(finished), "--repair"]) == 1
    printed = capsys.readouterr().out
    assert "Restore this file from a copy; the features are not affected" in printed
    assert "1 of these cannot be repaired" in printed
    assert CachedFeatures(finished).is_complete()


@pytest.mark.parametrize("column", [field.name for field in fields(Statistics)])
def test_statistics_that_are_not_those_of_the_values_are_damage(
    finished: Path, column: str, capsys: pytest.CaptureFixture[str]
) -> None:
    statistics = json.loads((finished / "ledger/000000.json").read_text())["statistics"]
    statistics["lidar/stride8"][column] += 1
    rewrite_entry(finished, 0, statistics=statistics)
    assert main(["verify", str(finished)]) == 1
    assert "lidar/stride8 of shard 0: the ledger's statistics are" in capsys.readouterr().out


def test_a_map_without_statistics_and_statistics_without_a_map_are_damage(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = json.loads((finished / "ledger/000000.json").read_text())["statistics"]
    without = {name: values for name, values in whole.items() if name != "lidar/stride8"}
    surplus = whole | {"radar/stride4": whole["lidar/stride8"]}
    for statistics, name in ((without, "lidar/stride8"), (surplus, "radar/stride4")):
        rewrite_entry(finished, 0, statistics=statistics)
        assert main(["verify", str(finished)]) == 1
        assert f"{name} of shard 0: the ledger's statistics are" in capsys.readouterr().out


def test_a_file_that_cannot_be_read_now_is_not_damage_and_nothing_is_dropped(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", refuse)
        assert main(["verify", str(finished), "--repair"]) == 1
    assert "cannot be read: Permission denied. Nothing is known to be damaged" in (
        capsys.readouterr().err
    )
    assert CachedFeatures(finished).is_complete()


def test_a_bad_sector_is_damage(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "pread", fail)
    damages = verify(open_store(finished)).damages
    assert {damage.shard for damage in damages} == {0, 1, 2}
    assert "cannot be read: Input/output error" in str(damages[0])


@pytest.fixture
def with_null(finished: Path) -> Path:
    """A finished store with null features."""
    fill_null(make_null_writer(finished))
    return finished


def test_null_features_are_verified_and_repaired_too(
    with_null: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(with_null)]) == 0
    damage_shard(with_null / "null", 0)
    assert main(["verify", str(with_null), "--repair"]) == 1
    assert "moved aside: null/ledger/000000.json" in capsys.readouterr().out
    assert CachedFeatures(with_null).is_complete()
    assert not open_store(null_path(with_null)).ledger.complete()


def test_null_features_that_an_extraction_has_lost_are_damage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "extracted.zarr"
    writer = make_writer(path, dataset={"nuscenes": "/data"})
    assert main(["verify", str(path)]) == 0  # created, and killed before any row
    fill_null(make_null_writer(path))
    fill(writer)
    assert main(["verify", str(path)]) == 0
    assert main(["verify", str(path / "null")]) == 0
    assert main(["show", str(path)]) == 0
    assert "null features:" not in capsys.readouterr().out

    shutil.rmtree(path / "null")
    assert main(["verify", str(path)]) == 1
    lost = "null has no row, although `extract-features` writes it before any other. Run the "
    printed = capsys.readouterr().out
    assert lost in printed
    assert f"computes it anew: {command_of(path)}" in printed
    assert "5 of 5 rows are complete and were read again: 1 damaged" in printed
    assert main(["show", str(path)]) == 0
    assert f"damaged     null features: {path}/{lost}" in capsys.readouterr().out

    make_null_writer(path)  # killed before it wrote the row
    assert main(["verify", str(path)]) == 1
    fill_null(make_null_writer(path))
    assert main(["verify", str(path)]) == 0


def test_null_features_that_cannot_be_opened_are_damage(
    with_null: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (with_null / "null/zarr.json").write_text("{")
    assert main(["verify", str(with_null), "--repair"]) == 1
    printed = capsys.readouterr().out
    assert "null away and run this, which makes it anew: " + command_of(with_null) in printed
    assert "5 of 5 rows are complete" in printed
