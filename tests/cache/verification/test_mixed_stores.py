"""Files of two stores in one folder, as copying one over the other leaves them, are damage."""

import shutil
from pathlib import Path

import pytest

from cache.__main__ import main
from cache.coordination.store import open_store
from cache.format.identity import rows_digest
from cache.inspection.content_digest import content_digest
from cache.reader import CachedFeatures
from shared.errors import CacheError
from tests.cache.conftest import fill, make_identity, make_writer, without_field, write_sources


@pytest.fixture
def mixed(begun: Path, tmp_path: Path) -> Path:
    """A finished store of other weights, over which one with only the first shard was copied."""
    fill(make_writer(tmp_path / "mixed.zarr", precision="of another checkpoint"))
    return shutil.copytree(begun, tmp_path / "mixed.zarr", dirs_exist_ok=True)


def test_shards_of_another_store_are_damage_and_are_rebuilt(
    mixed: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(mixed)]) == 1
    printed = capsys.readouterr().out
    assert printed.count("is of a different store") == 2
    assert "000001.json is of a different store" in printed
    assert "--repair`, then the extraction again" in printed

    assert main(["verify", str(mixed), "--repair"]) == 1
    assert [shard.index for shard in make_writer(mixed).pending()] == [1, 2]
    fill(make_writer(mixed))
    assert main(["verify", str(mixed)]) == 0
    assert content_digest(open_store(mixed)) == content_digest(open_store(finished))


def test_whoever_reads_the_ledger_refuses_them(mixed: Path, tmp_path: Path) -> None:
    different = r"000001\.json is of a different store.*feature-cache verify .* --repair`, then"
    with pytest.raises(CacheError, match=different):  # as training and evaluation record it
        _ = CachedFeatures(mixed).sources_digest
    with pytest.raises(CacheError, match=different):
        content_digest(open_store(mixed))
    before = {file: file.read_bytes() for file in mixed.rglob("*") if file.is_file()}
    with pytest.raises(CacheError, match=different):
        make_writer(mixed, root=write_sources(tmp_path / "root"))
    assert {file: file.read_bytes() for file in mixed.rglob("*") if file.is_file()} == before


def test_entries_stay_valid_when_variants_are_added(finished: Path) -> None:
    fill(make_writer(finished, variants=3))
    assert main(["verify", str(finished)]) == 0
    store = open_store(finished)
    entries = list(store.entries(store.all_shards))
    assert {entry.identity for entry in entries[:3]} == {rows_digest(make_identity(), 0)}
    assert {entry.identity for entry in entries[3:]} == {rows_digest(make_identity(variants=9), 1)}


def test_variants_drawn_from_a_different_seed_are_different_rows() -> None:
    identity = make_identity(variants=2)
    reseeded = {**identity, "variant_seed": 12}
    assert rows_digest(identity, 0) == rows_digest(reseeded, 0)
    assert rows_digest(identity, 1) != rows_digest(reseeded, 1)


def test_entries_that_do_not_say_it_are_accepted(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = content_digest(open_store(finished))
    for shard in range(3):
        without_field(finished / f"ledger/{shard:06d}.json", "identity")
    assert main(["verify", str(finished)]) == 0
    assert "5 of 5 rows are complete and were read again: all as written" in capsys.readouterr().out
    assert content_digest(open_store(finished)) == digest
