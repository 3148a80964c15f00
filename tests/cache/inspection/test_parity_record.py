"""The result of a parity check is kept beside the ledger and holds for the content it checked."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cache.__main__ import main as feature_cache
from cache.coordination.store import Store, open_store
from cache.inspection import parity_record
from cache.inspection.content_digest import content_digest
from cache.inspection.parity_record import (
    NOT_CHECKED,
    ParityRecord,
    checked_content,
    parity_note,
    read_record,
    record_path,
    write_record,
)
from cache.reader import CachedFeatures
from cache.storage.location import parse_store_path
from tests.cache.conftest import fill, make_features, make_writer, with_map


def make_record(
    store: Store, *, rows: int = 3, failed: tuple[str, ...] = (), at: str = "2026-01-02"
) -> ParityRecord:
    return ParityRecord(
        content=checked_content(store),
        failed=failed,
        rows=rows,
        total_rows=store.layout.rows,
        variants=(0,),
        detector_samples=2,
        seed=0,
        found_share=0.4,
        head="seeded",
        device="NVIDIA H200",
        software={"torch": "2.11.0"},
        margins={"camera/stride16": 0.25, "decoded boxes": None},
        at=at,
    )


def test_a_store_that_was_not_checked_says_so(finished: Path) -> None:
    assert read_record(record_path(open_store(finished))) is None
    assert CachedFeatures(finished).parity_note() == NOT_CHECKED


def test_a_record_is_read_back_and_quoted(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store(finished)
    write_record(store, make_record(store))

    assert read_record(record_path(store)) == make_record(store)
    assert feature_cache(["show", str(finished)]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line[:6] == "parity")
    assert "holds: 3 of 5 rows at 2026-01-02 on NVIDIA H200" in line
    assert "finds a fault in 40% of the rows with 95% probability" in line


def test_it_is_no_part_of_the_content_and_disturbs_no_command(
    finished: Path, templates: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store(finished)
    before = content_digest(store, recompute=True)

    write_record(store, make_record(store))

    assert content_digest(store, recompute=True) == before
    assert CachedFeatures(finished).is_complete()
    assert feature_cache(["verify", str(finished)]) == 0
    assert feature_cache(["diff", str(finished), str(templates / "finished")]) == 0


def test_a_check_that_failed_replaces_any_and_warns_of_training(finished: Path) -> None:
    store = open_store(finished)
    write_record(store, make_record(store, rows=5))

    write_record(store, make_record(store, rows=1, failed=("camera/stride16 at batch size 1",)))

    assert parity_note(store).startswith("FAILED: 1 quantities outside their tolerance, first cam")
    assert "do not train" in parity_note(store)


def test_a_check_of_fewer_rows_does_not_replace_a_wider_one(finished: Path) -> None:
    store = open_store(finished)
    write_record(store, make_record(store, rows=4, at="first"))

    write_record(store, make_record(store, rows=3, at="second"))
    assert "4 of 5 rows at first" in parity_note(store)
    write_record(store, make_record(store, rows=4, at="third"))
    assert "4 of 5 rows at third" in parity_note(store)


def test_new_variants_make_it_stale_until_they_are_checked(finished: Path) -> None:
    store = open_store(finished)
    write_record(store, make_record(store, rows=5))

    fill(make_writer(finished, variants=2), shards=1)
    assert parity_note(open_store(finished)).startswith("stale: checked at 2026-01-02")
    fill(make_writer(finished, variants=2))
    extended = open_store(finished)
    assert parity_note(extended).startswith("stale")

    write_record(extended, make_record(extended, rows=2))
    assert parity_note(extended).startswith("holds: 2 of 10 rows")


def test_a_shard_written_again_with_the_same_values_is_the_same_content(finished: Path) -> None:
    store = open_store(finished)
    record = make_record(store)
    write_record(store, record)
    entry = store.ledger.read(0)
    store.ledger.drop(0, store.ledger.fingerprint(0))
    assert parity_note(store).startswith("stale")

    store.ledger.write(replace(entry, written_at="later"))

    assert checked_content(store).ledger_digest != record.content.ledger_digest
    assert parity_note(store).startswith("holds")


def test_other_values_are_other_content(finished: Path) -> None:
    store = open_store(finished)
    write_record(store, make_record(store))
    entry = store.ledger.read(0)
    name, digests = next(iter(entry.digests.items()))
    changed = replace(entry, digests={**entry.digests, name: tuple(reversed(digests))})
    store.ledger.drop(0, store.ledger.fingerprint(0))

    store.ledger.write(changed)

    assert parity_note(store).startswith("stale")


def test_a_shard_written_again_while_it_is_recorded_is_not_what_was_checked(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = content_digest

    def digest_before(store: Store) -> str:
        digest = real(store)
        (finished / "ledger/000000.json").unlink()
        writer = make_writer(finished)
        ant, bee = (make_features(token) for token in ("ant", "bee"))
        values = np.zeros_like(ant.maps["lidar/stride8"])
        writer.write_shard(writer.pending()[0], [with_map(ant, "lidar/stride8", values), bee])
        return digest

    with monkeypatch.context() as patch:
        patch.setattr(parity_record, "content_digest", digest_before)
        checked = parity_record.checked_content(open_store(finished))
    assert not parity_record.has_content(open_store(finished), checked)


def test_a_damaged_record_is_said_to_be_damaged_and_can_be_replaced(finished: Path) -> None:
    store = open_store(finished)
    write_record(store, make_record(store, rows=5))
    file = Path(str(record_path(store)))
    file.write_bytes(file.read_bytes().replace(b'"rows": 5', b'"rows": 4'))
    assert "parity.json is damaged (its checksum does not match)" in parity_note(store)

    write_record(store, make_record(store, rows=1))

    assert parity_note(store).startswith("holds: 1 of 5")


def test_a_store_that_cannot_be_written_gets_a_warning(
    finished: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(finished)

    def refuse(*_: object) -> None:
        raise PermissionError("Read-only file system")

    monkeypatch.setattr("cache.storage.directory.DirectoryPath.write_whole", refuse)
    with caplog.at_level(logging.WARNING):
        write_record(store, make_record(store))

    assert "parity.json cannot be written (Read-only file system)" in caplog.text
    assert parity_note(store) == NOT_CHECKED


def test_a_copied_store_keeps_it(finished: Path, tmp_path: Path) -> None:
    store = open_store(finished)
    write_record(store, make_record(store))

    copy = shutil.copytree(finished, tmp_path / "copy.zarr")

    assert parity_note(open_store(copy)) == parity_note(store)


def test_it_is_kept_on_object_storage_too(s3: str) -> None:
    path = parse_store_path(f"{s3}/small.zarr")
    fill(make_writer(path))
    store = open_store(path)

    write_record(store, make_record(store))

    assert parity_note(store).startswith("holds: 3 of 5 rows")
    assert CachedFeatures(path).is_complete()
