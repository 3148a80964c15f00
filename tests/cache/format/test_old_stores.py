"""A store of every past schema stays here: it opens, or explains itself and is left alone.

Each was written by the code of its time; `small_preset`, samples ant and bee.
"""

import shutil
from pathlib import Path

import pytest

from cache.__main__ import main as feature_cache
from cache.format.schema import SCHEMA_VERSION
from cache.reader import CachedFeatures
from shared.errors import CacheError

OLD = Path(__file__).parent / "old_stores"


@pytest.fixture
def version_1(tmp_path: Path) -> Path:
    return shutil.copytree(OLD / "v1.zarr", tmp_path / "v1.zarr")


def contents(path: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_there_is_a_store_of_every_past_version() -> None:
    versions = {int(path.stem.removeprefix("v")) for path in OLD.iterdir()}
    assert versions == set(range(1, SCHEMA_VERSION))


def test_version_1_says_what_it_is_and_what_to_do(version_1: Path) -> None:
    with pytest.raises(CacheError, match=r"schema version 1, .* reads 2; use the version that"):
        CachedFeatures(version_1)


@pytest.mark.parametrize("command", ["show", "verify", "digest"])
def test_every_command_explains_itself_and_changes_nothing(
    version_1: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(version_1)
    assert feature_cache([command, str(version_1)]) == 1
    assert "schema version 1" in capsys.readouterr().err
    assert contents(version_1) == before
