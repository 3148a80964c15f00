"""Every file's bytes count in a store's digest of sensor files, and diff names what differs."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cache.__main__ import main
from cache.coordination.ledger import Ledger
from cache.coordination.shard_sources import NAMED_LENGTH, ShardSources
from cache.coordination.store import open_store
from cache.inspection.content_digest import content_digest
from cache.inspection.sources_digest import sources_digest
from cache.reader import CachedFeatures
from cache.writer import StoreWriter
from shared.data.features import FrameFeatures
from shared.digests import json_digest
from tests.cache.conftest import (
    TOKENS,
    fill,
    make_features,
    make_sources,
    make_writer,
    without_sources,
)

UNKNOWN = "written by a version of frozen-cmt that did not digest sensor files"


def with_other(name: str, token: str) -> FrameFeatures:
    """Return features of a sample that were made from other bytes of this file."""
    features = make_features(token)
    sources = {
        sensor: tuple(
            replace(file, digest="f" * 64) if file.name == name else file for file in files
        )
        for sensor, files in features.sources.items()
    }
    return replace(features, sources=sources)


def fill_with_other(writer: StoreWriter, name: str) -> StoreWriter:
    """Fill a store as from a root in which this file has other bytes."""
    for shard in writer.pending():
        writer.write_shard(shard, [with_other(name, token) for token in shard.tokens])
    return writer


def test_an_entry_keeps_names_and_digests_of_every_file(finished: Path) -> None:
    sources = open_store(finished).ledger.read(0).sources
    assert sources is not None
    for slot, token in enumerate(TOKENS[:2]):
        for sensor, files in make_sources(token).items():
            unpacked = sources.unpacked()[slot][sensor]
            assert [file.name for file in unpacked] == [file.name for file in files]
            for short, file in zip(unpacked, files, strict=True):
                digest = hashlib.sha256(file.name.encode()).hexdigest()
                assert short.digest == digest[:NAMED_LENGTH]
            assert sources.digests[sensor][slot] == json_digest([file.digest for file in files])


def test_rows_without_files_or_of_unlike_sensors_have_no_record() -> None:
    both = make_sources("ant")
    assert ShardSources.of([{}, {}]) is None
    assert ShardSources.of([both, {}]) is None
    assert ShardSources.of([both, {"camera": both["camera"]}]) is None


BEES = [file.name for files in make_sources("bee").values() for file in files]


@pytest.mark.parametrize("name", BEES)
def test_the_sources_digest_depends_on_every_files_bytes(
    finished: Path, tmp_path: Path, name: str
) -> None:
    digest = sources_digest(open_store(finished))
    assert digest is not None
    changed = fill_with_other(make_writer(tmp_path / "changed"), name).store
    assert sources_digest(changed) not in (digest, None)
    assert content_digest(changed) == content_digest(open_store(finished))


def test_the_sources_digest_does_not_depend_on_shards_and_variants(
    finished: Path, tmp_path: Path
) -> None:
    writer = make_writer(tmp_path / "second", rows_per_shard=3, variants=2)
    fill(writer)
    assert sources_digest(writer.store) == sources_digest(open_store(finished))


def test_a_variant_made_from_other_files_changes_the_sources_digest(tmp_path: Path) -> None:
    digests = set()
    for name, changed in (("same", "none"), ("mixed", BEES[0])):
        writer = make_writer(tmp_path / name, variants=2)
        for shard in writer.pending():
            features = [with_other(changed if shard.variant else "", t) for t in shard.tokens]
            frames = [replace(f.frame, variant=shard.variant) for f in features]
            rows = [replace(f, frame=frame) for f, frame in zip(features, frames, strict=True)]
            writer.write_shard(shard, rows)
        digests.add(sources_digest(writer.store))
    assert len(digests) == 2


def test_a_reader_reads_the_ledger_once_for_it_when_the_store_is_complete(
    begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = CachedFeatures(begun)
    assert source.sources_digest is None
    fill(StoreWriter(begun))
    digest = source.sources_digest
    assert digest == sources_digest(source.store) is not None
    monkeypatch.setattr(Ledger, "read", None)
    assert source.sources_digest == digest


def test_show_prints_the_digest_or_says_why_there_is_none(
    finished: Path, begun: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = sources_digest(open_store(finished))
    assert main(["show", str(finished)]) == 0
    assert f"sources     {digest}\n" in capsys.readouterr().out
    assert main(["show", str(finished), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sources"] == {"digest": digest, "unknown_rows": 0}
    assert main(["show", str(begun)]) == 0
    assert "sensor files is known once the store is complete" in capsys.readouterr().out
    without_sources(finished, 0)
    assert sources_digest(open_store(finished)) is None
    assert main(["show", str(finished)]) == 0
    assert f"sources     2 of 5 rows {UNKNOWN}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("samples/CAM_3/dog.jpg", "camera of 1 of 5 samples, lidar of 0"),
        ("samples/LIDAR/dog.bin", "camera of 0 of 5 samples, lidar of 2"),  # a sweep of elk's, too
    ],
)
def test_diff_counts_the_samples_with_other_files(
    file: str, words: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill_with_other(make_writer(tmp_path / "second"), file)
    assert main(["diff", str(finished), str(tmp_path / "second")]) == 1
    first, arrays = capsys.readouterr().out.splitlines()
    assert first == f"same tables, other sensor files: {words}"
    sensor = "camera" if "CAM" in file else "lidar"
    assert arrays == f"    to extract anew: {sensor}/*, those samples"


def test_diff_of_stores_of_other_tables_compares_the_samples_that_both_have(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill_with_other(make_writer(tmp_path / "fewer", tokens=TOKENS[:3]), "samples/CAM_0/cow.jpg")
    assert main(["diff", str(finished), str(tmp_path / "fewer")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("dataset.tokens: ")
    assert "other sensor files: camera of 1 of 3 samples, lidar of 0" in lines


def test_diff_says_what_it_cannot_compare(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = shutil.copytree(finished, tmp_path / "old")
    without_sources(old, 0, 1, 2)
    assert main(["diff", str(finished), str(old)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "no difference in what determines the features",
        f"sensor files cannot be compared: 5 of 5 rows of {old} were {UNKNOWN}",
    ]
