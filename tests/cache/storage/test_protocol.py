"""A directory and object storage answer the same to the verbs of `StorePath`."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from cache.storage.directory import DirectoryPath
from cache.storage.location import as_store_path
from cache.storage.object_storage import object_path
from cache.storage.protocol import StorePath
from shared.errors import CacheError
from shared.process.file_lock import NoLocksError


@pytest.fixture(params=["directory", "object storage"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> StorePath:
    """A folder with the files a.json and b.lock."""
    folder: StorePath
    if request.param == "directory":
        folder = DirectoryPath(tmp_path) / "folder"
        folder.mkdir()
    else:
        folder = object_path(f"{request.getfixturevalue('s3')}/folder")
    (folder / "a.json").write_whole([b"01", b"23456789"])
    (folder / "b.lock").write_whole([])
    return folder


def test_files_are_listed_measured_and_read(place: StorePath) -> None:
    assert sorted(place.names()) == ["a.json", "b.lock"]
    assert place.sizes() == {"a.json": 10, "b.lock": 0}
    assert (place / "a.json").read_bytes() == b"0123456789"
    assert (place.name, (place / "a.json").with_suffix(".claim").name) == ("folder", "a.claim")


def test_what_exists_is_a_file_or_a_folder(place: StorePath) -> None:
    kinds = [
        (path.exists(), path.is_file(), path.is_dir())
        for path in (place, place / "a.json", place / "missing")
    ]
    assert kinds == [(True, False, True), (True, True, False), (False, False, False)]
    with pytest.raises(FileNotFoundError):
        (place / "missing").read_bytes()


def test_a_file_is_replaced_moved_aside_and_deleted(place: StorePath) -> None:
    file = place / "a.json"
    file.write_whole([b"new"])
    assert file.read_bytes() == b"new"
    file.move_aside(".damaged")
    assert sorted(place.names()) == ["a.damaged", "b.lock"]
    file.with_suffix(".damaged").unlink()
    file.unlink(missing_ok=True)
    assert list(place.names()) == ["b.lock"]


def test_a_new_file_is_created_whole(place: StorePath) -> None:
    assert (place / "c.json").create_whole(b"{}")
    assert (place / "c.json").read_bytes() == b"{}"


def test_a_file_is_replaced_only_if_it_is_what_it_was(place: StorePath) -> None:
    file = place / "a.json"
    assert file.replace_whole(b"0123456789", b"new")
    assert not file.replace_whole(b"0123456789", b"newer")
    assert file.read_bytes() == b"new"
    with pytest.raises(FileNotFoundError):
        (place / "missing").replace_whole(b"", b"new")


@pytest.mark.parametrize("tail_bytes", [1, 4, 10, 99])
def test_a_range_is_read_whose_position_the_end_tells(place: StorePath, tail_bytes: int) -> None:
    def locate(tail: bytes, size: int) -> tuple[int, np.ndarray]:
        assert (tail, size) == (b"0123456789"[-tail_bytes:], 10)
        return 2, np.zeros(3, np.uint8)

    pieces = list((place / "a.json").read_located(tail_bytes, locate))
    assert b"".join(piece.tobytes() for piece in pieces) == b"234"


def test_an_empty_file_has_an_empty_end(place: StorePath) -> None:
    def locate(tail: bytes, size: int) -> tuple[int, np.ndarray]:
        raise ValueError((tail, size))

    with pytest.raises(ValueError, match=r"\(b'', 0\)"):
        list((place / "b.lock").read_located(4, locate))


def test_results_come_in_order(place: StorePath) -> None:
    names = ["a.json", "b.lock", "a.json"]
    contents = place.for_each(lambda name: (place / name).read_bytes(), names)
    assert [len(content) for content in contents] == [10, 0, 10]


def create(target: StorePath, content: bytes) -> None:
    with target.creating("root") as building:
        (building / "below").mkdir()
        (building / "below/file").write_bytes(content)
        (building / "root").write_bytes(b"root")


def test_a_folder_is_created_with_everything_below_it(place: StorePath) -> None:
    create(place / "new", b"12345")
    assert (place / "new").sizes() == {"root": 4, "below/file": 5}


def test_a_folder_created_meanwhile_wins(place: StorePath) -> None:
    with (place / "new").creating("root") as building:
        (building / "root").write_bytes(b"second")
        create(place / "new", b"12345")
    assert (place / "new").sizes() == {"root": 4, "below/file": 5}


def test_a_folder_of_something_different_is_not_touched(place: StorePath) -> None:
    with pytest.raises(CacheError, match=r"not a feature store|other than a feature store"):
        create(place, b"12345")
    assert place.sizes() == {"a.json": 10, "b.lock": 0}


def test_a_failure_while_creating_leaves_nothing(place: StorePath) -> None:
    with pytest.raises(TypeError, match="NoneType"):
        create(place / "new", None)
    assert place.sizes() == {"a.json": 10, "b.lock": 0}


def test_a_place_is_pickled(place: StorePath) -> None:
    again = pickle.loads(pickle.dumps(place))
    assert str(again) == str(place)
    assert type(again) is type(place)
    assert (again / "a.json").read_bytes() == b"0123456789"


def test_only_a_directory_has_locks_and_knows_its_free_space(place: StorePath) -> None:
    if place.creates_at_once:
        file = (place / "b.lock").lock(is_patient=False)
        assert file is not None
        assert (place / "b.lock").lock(is_patient=False) is None
        file.close()
        assert (place.free_bytes() or 0) > 0
    else:
        with pytest.raises(NoLocksError):
            (place / "b.lock").lock(is_patient=False)
        assert place.free_bytes() is None


def test_a_plain_path_is_a_directory(tmp_path: Path) -> None:
    assert type(as_store_path(tmp_path)) is DirectoryPath
    assert as_store_path(tmp_path) == tmp_path
