"""A store is neither resumed nor found intact with sensor files other than its own."""

import hashlib
import os
import shutil
import signal
import threading
from pathlib import Path

import pytest

import cache.verification.verify_store
from cache.__main__ import main
from cache.coordination.store import Store, open_store
from cache.inspection.sources_digest import sources_digest
from cache.storage.location import parse_store_path
from cache.verification.check_rows import Damage
from cache.verification.check_sources import FEWEST_ROWS, MOST_ROWS, drawn_rows, source_damage
from shared.errors import CacheError, DatasetError, IdentityError
from tests.cache.conftest import (
    TOKENS,
    fill,
    make_writer,
    without_sources,
    write_sources,
)

UNKNOWN = "written by a version of frozen-cmt that did not digest sensor files"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The files that `make_features` names."""
    return write_sources(tmp_path / "root")


def contents(path: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_a_store_is_resumed_and_extended_from_a_copy_of_its_files(
    begun: Path, root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    moved = shutil.copytree(root, tmp_path / "elsewhere")
    with caplog.at_level("INFO"):
        fill(make_writer(begun, root=moved))
    assert "sensor files of 2 finished rows are still those" in caplog.text
    assert make_writer(begun, root=moved, variants=2).pending()


@pytest.mark.parametrize("variants", [1, 2])
def test_nothing_is_written_where_files_differ(variants: int, begun: Path, root: Path) -> None:
    (root / "samples/CAM_2/bee.jpg").write_text("dark")
    (root / "samples/LIDAR/ant.bin").unlink()
    before = contents(begun)
    with pytest.raises(IdentityError) as refusal:
        make_writer(begun, root=root, variants=variants)
    assert contents(begun) == before
    message = str(refusal.value)
    dark = hashlib.sha256(b"dark").hexdigest()[:12]
    made_from = hashlib.sha256(b"samples/CAM_2/bee.jpg").hexdigest()[:12]
    assert f"made from other sensor files than those in {root}; of 2 finished rows" in message
    assert (
        f"camera of 1 rows: {root}/samples/CAM_2/bee.jpg has SHA-256 {dark}..., the row was made "
        f"from {made_from}..." in message
    )
    assert f"lidar of 2 rows: {root}/samples/LIDAR/ant.bin is missing" in message
    assert "different --store. Nothing was changed." in message


def test_a_difference_of_identity_is_explained_before_files_are_read(begun: Path) -> None:
    with pytest.raises(IdentityError, match=r"dataset\.tokens"):
        make_writer(begun, tokens=TOKENS[:3], root=Path("/nowhere"))


def test_rows_of_an_earlier_version_are_resumed_with_a_warning(
    begun: Path, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    without_sources(begun, 0)
    fill(make_writer(begun, root=root))
    assert f"2 finished rows of {begun} cannot be compared" in caplog.text
    assert sources_digest(open_store(begun)) is None


@pytest.mark.parametrize(
    ("sizes", "rows"),
    [
        ({}, 0),
        ({0: 3}, 3),
        ({0: 20}, FEWEST_ROWS),
        ({0: 4, 1: 4, 2: 4}, FEWEST_ROWS),
        (dict.fromkeys(range(30), 5), 30),
        (dict.fromkeys(range(3000), 5), MOST_ROWS),
    ],
)
def test_rows_are_drawn_from_every_shard_and_are_eight_to_a_thousand(
    sizes: dict[int, int], rows: int
) -> None:
    drawn = drawn_rows(sizes)
    assert len(set(drawn)) == len(drawn) == rows
    assert len({shard for shard, _ in drawn}) == min(len(sizes), MOST_ROWS)
    assert all(0 <= slot < sizes[shard] for shard, slot in drawn)
    assert drawn_rows(sizes) == drawn
    if sizes == {0: 20}:
        assert drawn != [(0, slot) for slot in range(FEWEST_ROWS)]
        assert {slot for n in range(20, 60) for _, slot in drawn_rows({0: n})} >= set(range(20))


def test_verify_accepts_a_copy_and_counts_rows(
    finished: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(finished)
    assert main(["verify", str(finished), "--nuscenes", str(root)]) == 0
    assert capsys.readouterr().out == (
        "5 of 5 rows are complete, and their sensor files were read again: all as they were "
        "extracted\n"
    )
    assert contents(finished) == before


@pytest.mark.parametrize("workers", ["1", "3"])
def test_verify_names_every_file_that_differs(
    workers: str, finished: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "samples/LIDAR/bee.bin").write_bytes(b"other")
    (root / "samples/CAM_5/elk.jpg").unlink()
    command = ["verify", str(finished), "--nuscenes", str(root), "--workers", workers]
    assert main(command) == 1
    *lines, last = sorted(capsys.readouterr().out.splitlines(), reverse=True)
    assert last == (
        "5 of 5 rows are complete, and their sensor files were read again: differences: 3"
    )
    where = [
        "lidar files of 1 of 2 samples, variant 0, shard 1",
        "lidar files of 1 of 2 samples, variant 0, shard 0",
        "camera files of 1 of 1 samples, variant 0, shard 2",
    ]
    assert [line.partition(":")[0] for line in lines] == where
    # bee is the keyframe in shard 0, and the sweep of cow's in shard 1: 2 and 3 files there.
    assert f"1 of 3 are not those that were extracted: {root}/samples/LIDAR/bee.bin has" in lines[0]
    assert f"1 of 2 are not those that were extracted: {root}/samples/LIDAR/bee.bin has" in lines[1]
    assert f"1 of 6 are not those that were extracted: {root}/samples/CAM_5/elk.jpg is" in lines[2]
    assert "is missing. Name the root that the store was extracted from" in lines[2]


def test_verify_names_rows_of_an_earlier_version(
    finished: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    without_sources(finished, 1)
    assert main(["verify", str(finished), "--nuscenes", str(root)]) == 1
    assert f"shard 1: they are not known, the shard was {UNKNOWN}" in capsys.readouterr().out


def test_verify_refuses_what_is_no_root_and_what_it_cannot_read(
    finished: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(finished), "--nuscenes", str(root / "nowhere")]) == 1
    assert "nowhere is not a folder; name the nuScenes root" in capsys.readouterr().err
    image = root / "samples/CAM_0/ant.jpg"
    image.unlink()
    image.mkdir()
    assert main(["verify", str(finished), "--nuscenes", str(root)]) == 1
    assert f"{image} cannot be read (Is a directory)" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["verify", str(finished), "--nuscenes", str(root), "--repair"])
    assert "cannot mend sensor files" in capsys.readouterr().err


def test_an_interrupted_comparison_resumes_with_the_same_root_only(
    finished: Path,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def until_the_last(store: Store, root: Path, shard: int, stop: threading.Event) -> list[Damage]:
        if shard == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            stop.wait(10)
        return source_damage(store, root, shard, stop)

    command = ["verify", str(finished), "--workers", "1", "--nuscenes"]
    with monkeypatch.context() as patch:
        patch.setattr(cache.verification.verify_store, "source_damage", until_the_last)
        assert main([*command, str(root)]) == 128 + signal.SIGTERM
    assert "4 rows of 3 shards were read" in capsys.readouterr().err
    copy = shutil.copytree(finished, tmp_path / "copy")
    assert main(["verify", str(finished)]) == 0
    assert "5 of 5 rows are complete and were read again" in capsys.readouterr().out
    assert main([*command, str(root)]) == 0
    assert (
        "rows are complete, and their sensor files (1 read now, 4 since 20"
        in capsys.readouterr().out
    )
    elsewhere = shutil.copytree(root, tmp_path / "elsewhere")
    (elsewhere / "samples/CAM_0/ant.jpg").write_text("other")
    assert main(["verify", str(copy), "--nuscenes", str(elsewhere)]) == 1
    assert (
        "5 of 5 rows are complete, and their sensor files were read again"
        in capsys.readouterr().out
    )


def test_a_store_on_s3_is_compared_alike(
    s3: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = parse_store_path(f"{s3}/store.zarr")
    fill(make_writer(place))
    assert sources_digest(open_store(place)) is not None
    assert main(["verify", str(place), "--nuscenes", str(root)]) == 0
    assert make_writer(place, root=root).pending() == []
    (root / "samples/CAM_0/ant.jpg").write_text("other")
    assert main(["verify", str(place), "--nuscenes", str(root)]) == 1
    assert "samples/CAM_0/ant.jpg has SHA-256" in capsys.readouterr().out
    with pytest.raises(IdentityError, match=r"ant\.jpg has SHA-256"):
        make_writer(place, root=root)


def test_a_file_that_cannot_be_read_is_no_other_file(begun: Path, root: Path) -> None:
    image = root / "samples/CAM_0/ant.jpg"
    image.unlink()
    image.mkdir()
    with pytest.raises(DatasetError, match=r"ant\.jpg cannot be read"):
        make_writer(begun, root=root)


def test_a_damaged_entry_is_named(
    finished: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (finished / "ledger/000001.json").write_text("{}")
    assert main(["verify", str(finished), "--nuscenes", str(root)]) == 1
    assert "ledger entry" in (printed := capsys.readouterr().out)
    assert "differences: 1" in printed
    with pytest.raises(CacheError, match=r"is damaged .* Run `feature-cache verify .* --repair`"):
        make_writer(finished, root=root)
