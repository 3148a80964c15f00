"""A store of every past schema stays here: it explains itself and is left alone.

Each was written by the code of its time from `small_preset` and the samples ant and bee, by the
`make_writer` and `fill` of that time's `tests/cache/conftest.py`.
"""

import shutil
from pathlib import Path

import pytest

from cache.__main__ import main as feature_cache
from cache.create import codec_at
from cache.extend import variants_at
from cache.format.schema import SCHEMA_VERSION
from cache.reader import CachedFeatures
from shared.errors import CacheError
from tests.cache.conftest import TOKENS, make_writer

OLD = Path(__file__).parent / "old_stores"
VERSIONS = (1, 2)


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> int:
    number: int = request.param
    return number


@pytest.fixture
def old_store(version: int, tmp_path: Path) -> Path:
    return shutil.copytree(OLD / f"v{version}.zarr", tmp_path / "old.zarr")


def contents(path: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_there_is_a_store_of_every_past_version() -> None:
    assert {int(path.stem.removeprefix("v")) for path in OLD.iterdir()} == set(VERSIONS)
    assert set(VERSIONS) == set(range(1, SCHEMA_VERSION))


def test_an_old_store_says_what_it_is_and_what_to_do(old_store: Path, version: int) -> None:
    message = (
        rf"old\.zarr is a feature store of schema version {version}; .* reads version "
        rf"{SCHEMA_VERSION}\. Extract the features again into a different --store, "
        "or use the older release"
    )
    for use in (CachedFeatures, codec_at, variants_at):
        with pytest.raises(CacheError, match=message):
            use(old_store)


def test_an_old_store_cannot_be_resumed(old_store: Path, version: int) -> None:
    before = contents(old_store)
    with pytest.raises(CacheError, match=f"schema version {version}"):
        make_writer(old_store, tokens=TOKENS[:2])
    assert contents(old_store) == before


@pytest.mark.parametrize("command", ["show", "verify", "digest"])
def test_every_command_explains_itself_and_changes_nothing(
    old_store: Path, version: int, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(old_store)
    assert feature_cache([command, str(old_store)]) == 1
    assert f"schema version {version}" in capsys.readouterr().err
    assert contents(old_store) == before


def test_diff_with_an_old_store_explains_itself(
    old_store: Path, version: int, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert feature_cache(["diff", str(finished), str(old_store)]) == 1
    assert f"schema version {version}" in capsys.readouterr().err
