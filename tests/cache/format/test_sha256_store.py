"""A store from before its rows were digested with BLAKE3 is read, verified, resumed and extended.

`sha256.zarr` was written by the code of that time, by `make_writer` and `fill` of its
`tests/cache/conftest.py`: the fixture `finished`, with SHA-256 in its ledger.
"""

import json
import shutil
from pathlib import Path

import pytest

from cache.__main__ import main as feature_cache
from cache.coordination.store import open_store
from cache.create import codec_at
from cache.format.codec import DEFAULT_CODEC
from cache.inspection.content_digest import content_digest
from cache.reader import CachedFeatures
from cache.verification.verify_store import verify
from shared.digests import BLAKE3, SHA256
from shared.errors import CacheError
from tests.cache.conftest import TOKENS, fill, make_writer
from tests.cache.verification.test_damage import rewrite_metadata
from tests.cache.verification.test_verification import rewrite_entry

DIGEST = "b6b21906b4d235ad96d0893b600872de165a0a63ee33925b4ff6f1b285591c9f"  # of its own time


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return shutil.copytree(Path(__file__).parent / "sha256.zarr", tmp_path / "old.zarr")


def recorded(path: Path, shard: int) -> dict[str, list[str]]:
    document: dict[str, dict[str, list[str]]] = json.loads(
        (path / f"ledger/{shard:06d}.json").read_text()
    )
    return document["digests"]


def test_its_rows_are_intact_and_its_digest_is_that_of_its_time(old: Path, finished: Path) -> None:
    store, new = open_store(old), open_store(finished)
    assert (store.metadata.digest_algorithm, new.metadata.digest_algorithm) == (SHA256, BLAKE3)
    outcome = verify(store)
    assert (outcome.rows_read, outcome.damages) == (len(TOKENS), [])
    assert content_digest(store) == DIGEST != content_digest(new)
    old_rows, new_rows = (CachedFeatures(path).read(TOKENS) for path in (old, finished))
    for ours, theirs in zip(old_rows, new_rows, strict=True):
        assert all((ours.maps[name] == theirs.maps[name]).all() for name in theirs.maps)


def test_recomputed_its_digest_is_that_of_a_store_made_now(
    old: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert content_digest(open_store(old), recompute=True) == content_digest(open_store(finished))
    assert feature_cache(["digest", str(old)]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{DIGEST}\n"
    assert "has SHA-256 digests" in printed.err
    assert feature_cache(["digest", str(old), "--recompute"]) == 0
    recomputed = capsys.readouterr()
    assert feature_cache(["digest", str(finished)]) == 0
    assert capsys.readouterr() == recomputed


def test_a_digest_of_the_wrong_algorithm_is_damage(old: Path, finished: Path) -> None:
    for store, foreign in ((old, finished), (finished, old)):
        own = recorded(store, 1)
        rewrite_entry(store, 1, digests=recorded(foreign, 1))
        assert {damage.shard for damage in verify(open_store(store)).damages} == {1}
        rewrite_entry(store, 1, digests=own)
        assert not verify(open_store(store)).damages


def test_resumed_and_extended_it_keeps_its_algorithm_and_codec(old: Path) -> None:
    before = recorded(old, 1)
    (old / "ledger/000001.json").unlink()
    assert codec_at(old) == "zstd-1" != DEFAULT_CODEC
    fill(make_writer(old, codec=codec_at(old)))
    assert recorded(old, 1) == before
    assert content_digest(open_store(old)) == DIGEST
    fill(make_writer(old, variants=2, codec=codec_at(old)))
    store = open_store(old)
    outcome = verify(store)
    assert (outcome.rows_read, outcome.damages) == (2 * len(TOKENS), [])
    assert store.metadata.digest_algorithm == SHA256


def test_an_unknown_algorithm_explains_itself(finished: Path) -> None:
    rewrite_metadata(finished, digest_algorithm="md5")
    with pytest.raises(CacheError, match=r"digests made by md5; .* knows sha256 and blake3; use"):
        open_store(finished)
