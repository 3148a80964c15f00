"""A moved or copied store is finished and repaired where it is now."""

import shutil
from pathlib import Path

import pytest

from cache.__main__ import main
from cache.coordination.resume_command import resume_command
from cache.coordination.store import open_store
from cache.reader import CachedFeatures
from cache.storage.directory import DirectoryPath
from shared.errors import CacheError
from tests.cache.conftest import COMMAND

PLACE = DirectoryPath("/new disk/a.zarr")


@pytest.mark.parametrize(
    ("recorded", "now"),
    [
        ("extract-features p --store old.zarr", "extract-features p --store '/new disk/a.zarr'"),
        (
            "extract-features p --store=old.zarr --codec none",
            "extract-features p '--store=/new disk/a.zarr' --codec none",
        ),
        ("extract-features p --stor 'old one'", "extract-features p --stor '/new disk/a.zarr'"),
        ("extract-features p --stores old.zarr", "extract-features p --stores old.zarr"),
        ("python make.py   # no option", "python make.py   # no option"),
        ("it's no command --store old", "it's no command --store old"),
        ("extract-features p --store", "extract-features p --store"),
        ("", ""),
    ],
)
def test_the_value_of_store_is_replaced(recorded: str, now: str) -> None:
    assert resume_command(recorded, PLACE) == now


def test_a_copy_is_finished_where_it_is(
    begun: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(begun, tmp_path / "my copy.zarr")
    command = f"extract-features small --store '{copy}'"
    assert open_store(copy).command == command
    with pytest.raises(CacheError, match=f"Finish it with: {command}"):
        CachedFeatures(copy).require_complete()
    assert main(["show", str(copy)]) == 0
    printed = capsys.readouterr().out
    assert f"finish it with: {command}" in printed
    assert f"by: {COMMAND}\n" in printed  # how it was created
