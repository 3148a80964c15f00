"""A store is created in an empty folder as it is: by any name, linked, mounted, or by a rival."""

import os
from pathlib import Path

import pytest

from cache.coordination.store import open_store
from cache.inspection.content_digest import content_digest
from cache.reader import CachedFeatures
from cache.storage.directory import DirectoryPath
from cache.verification.verify_store import verify
from shared.errors import CacheError
from tests.cache.conftest import fill, make_writer
from tests.small_disk import small_disk

LEFT_OVER = ".creating-0123456789abcdef"


def is_whole(store: Path) -> bool:
    """Fill a new store; return whether it is complete and as written."""
    fill(make_writer(store))
    return CachedFeatures(store).is_complete() and not verify(open_store(store)).damages


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_current_folder_is_a_store_and_still_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_writer(tmp_path / "reference")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    before = Path().stat().st_ino

    assert is_whole(Path())

    assert (tmp_path / "empty").stat().st_ino == before
    assert names(tmp_path / "empty") == names(tmp_path / "reference")


def test_a_link_to_an_empty_folder_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "store").symlink_to(tmp_path / "target")

    assert is_whole(tmp_path / "store")

    assert (tmp_path / "store").is_symlink()
    assert (tmp_path / "target" / "zarr.json").is_file()


def test_a_mounted_disk_is_a_store_with_the_folder_that_file_systems_put_there(
    tmp_path: Path,
) -> None:
    with small_disk(tmp_path / "disk", 16 * 2**20) as disk:
        (disk / "lost+found").mkdir()
        assert is_whole(disk)
        assert os.path.ismount(disk)


def test_a_link_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store").symlink_to(tmp_path / "nowhere")
    with pytest.raises(CacheError, match=r"store is a broken link, not a feature store; choose"):
        make_writer(tmp_path / "store")


@pytest.mark.parametrize("moves", [0, 1, 3])
def test_a_kill_while_a_folder_is_filled_leaves_no_store_and_is_repaired(
    moves: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, store = tmp_path / "reference", tmp_path / "store"
    fill(make_writer(reference))
    store.mkdir()
    rename, left = Path.rename, moves

    def killed(path: Path, target: Path) -> Path:
        nonlocal left
        if path.parent.name.startswith(".creating-"):
            if not left:
                raise KeyboardInterrupt
            left -= 1
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        patch.setattr("shutil.rmtree", lambda *_, **__: None)  # a killed process tidies nothing
        with pytest.raises(KeyboardInterrupt):
            make_writer(store)
    assert not (store / "zarr.json").exists()

    assert is_whole(store)

    digests = [content_digest(open_store(path), recompute=True) for path in (reference, store)]
    assert digests[0] == digests[1]


def test_what_else_came_into_a_folder_after_a_kill_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "store" / LEFT_OVER).mkdir(parents=True)
    (tmp_path / "store" / "thesis.txt").write_text("years of work")
    with pytest.raises(CacheError, match=r"not a feature store \(thesis\.txt is there\)"):
        make_writer(tmp_path / "store")
    assert names(tmp_path / "store") == {LEFT_OVER, "thesis.txt"}


@pytest.mark.parametrize("file", ["samples/CAM_BACK/a.jpg", "samples/token/notes", "lidar/a.bin"])
def test_a_folder_named_like_ours_is_not_touched(file: str, tmp_path: Path) -> None:
    store = tmp_path / "store"
    (store / LEFT_OVER).mkdir(parents=True)
    (store / file).parent.mkdir(parents=True)
    (store / file).write_text("recorded once")
    before = {path.relative_to(store) for path in store.rglob("*")}
    with pytest.raises(CacheError, match=r"not a feature store \(.*is there\).*was changed"):
        make_writer(store)
    assert (store / file).read_text() == "recorded once"
    assert {path.relative_to(store) for path in store.rglob("*")} - before <= {
        Path(".creating.lock")
    }


def test_a_rival_that_created_the_store_in_the_folder_wins(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    with DirectoryPath(store).creating("zarr.json") as building:
        fill(make_writer(store))
        (building / "zarr.json").write_text("of the slower one")
    assert CachedFeatures(store).is_complete()
    with DirectoryPath(store).creating("zarr.json") as building:  # it looked before the other came
        (building / "zarr.json").write_text("of the slowest")
    assert CachedFeatures(store).is_complete()
    assert not [name for name in names(store) if name.startswith(".creating")]
