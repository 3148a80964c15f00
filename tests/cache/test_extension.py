"""Commands that change a store at once, or are killed, leave it as one of them made it."""

import json
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import cache.create
import cache.extend
from cache.coordination.ledger import Ledger
from cache.coordination.store import open_store
from cache.extend import extend_variants, variants_at
from cache.format.metadata import Provenance
from cache.inspection.content_digest import content_digest
from cache.reader import CachedFeatures
from cache.storage.directory import DirectoryPath
from cache.storage.location import as_store_path
from cache.storage.object_storage import ObjectPath, object_path
from cache.storage.protocol import StorePath
from cache.verification.verify_store import verify
from cache.writer import StoreWriter
from shared.errors import CacheError, IdentityError
from tests.cache.conftest import COMMAND, command_of, fill, make_identity, make_writer
from tests.child_processes import READY, exit_code, running, wait_until_ready

PATIENCE_S = 60


@pytest.fixture(params=["directory", "object storage"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> StorePath:
    """Where a store may be made."""
    if request.param == "directory":
        return as_store_path(tmp_path / "train.zarr")
    return object_path(f"{request.getfixturevalue('s3')}/train.zarr")


def variants_of_arrays(store: StorePath) -> set[int]:
    """Return what other Zarr readers take for the number of variants."""
    files = [store / spec.name / "zarr.json" for spec in open_store(store).arrays]
    return {json.loads(file.read_bytes())["shape"][0] for file in files}


def extend(store: StorePath, variants: int) -> None:
    provenance = Provenance(command=COMMAND, weights="none", software={})
    extend_variants(store, make_identity(variants=variants), provenance)


def once_before(
    patch: pytest.MonkeyPatch, module: object, name: str, rival: Callable[[], object]
) -> None:
    """Let something else happen before the first call of a function."""
    real = getattr(module, name)

    def call(*arguments: object, **options: object) -> object:
        patch.setattr(module, name, real)
        rival()
        return real(*arguments, **options)

    patch.setattr(module, name, call)


def test_of_two_commands_that_add_variants_at_once_neither_takes_any_away(
    place: StorePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(make_writer(place))
    rival = threading.Thread(target=make_writer, args=(place,), kwargs={"variants": 4})

    def start_rival() -> None:
        rival.start()
        rival.join(0.3 if place.creates_at_once else PATIENCE_S)  # where there are locks, it waits

    once_before(monkeypatch, cache.extend, "to_attributes", start_rival)  # the store is read by now
    if place.creates_at_once:
        extend(place, 2)
    else:  # the rival did not wait
        with pytest.raises(IdentityError, match=r"has 4 variants, but 2 were asked for"):
            extend(place, 2)
    rival.join(PATIENCE_S)

    assert not rival.is_alive()
    assert open_store(place).layout.variants == 4
    assert variants_of_arrays(place) == {4}
    assert not verify(open_store(place)).damages


EXTENDER = f"""
import sys
from pathlib import Path
import cache.extend
from tests.cache.conftest import make_writer

def stop(*_):
    {READY.replace(chr(10), "; ").strip("; ")}

cache.extend.to_attributes = stop
make_writer(Path(sys.argv[1]), variants=3)
"""


def test_a_command_that_is_killed_while_it_adds_variants_blocks_nobody(finished: Path) -> None:
    waiting = threading.Thread(target=make_writer, args=(finished,), kwargs={"variants": 2})
    with running(EXTENDER, [finished]) as (holder,):
        wait_until_ready(holder)
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        holder.kill()
        assert exit_code(holder) == -signal.SIGKILL
        waiting.join(PATIENCE_S)
    assert not waiting.is_alive()
    assert open_store(finished).layout.variants == 2
    assert not verify(open_store(finished)).damages
    assert not (finished / "ledger" / "extension.lock").exists()


@pytest.mark.parametrize("files", [0, 1, 5])
def test_after_a_kill_between_two_files_any_command_that_resumes_makes_the_store_whole(
    place: StorePath, files: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(make_writer(place))
    with monkeypatch.context() as patch:
        real, left = type(place).write_whole, files

        def killed(path: StorePath, chunks: list[bytes]) -> None:
            nonlocal left
            if path.name == "zarr.json":
                if not left:
                    raise SystemExit
                left -= 1
            real(path, chunks)

        patch.setattr(type(place), "write_whole", killed)
        with pytest.raises(SystemExit):
            extend(place, 3)

    before = variants_at(place)
    assert before in (1, 3)
    fill(make_writer(place, variants=before))

    assert variants_of_arrays(place) == {before}
    assert CachedFeatures(place).is_complete()
    assert not verify(open_store(place)).damages


def test_arrays_that_were_not_extended_yet_are_no_damage_to_be_restored(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(cache.extend, "late_arrays", lambda *_: {})
        extend(as_store_path(finished), 2)
    damages = [str(damage) for damage in verify(open_store(finished)).damages]
    assert len(damages) == len(open_store(finished).arrays)
    command = command_of(finished)
    assert all("does not have all variants" in damage and command in damage for damage in damages)
    assert not any("from a copy" in damage for damage in damages)


def test_a_damaged_array_is_named_before_variants_are_added(finished: Path) -> None:
    file = finished / "camera/stride16/zarr.json"
    before, root = file.read_bytes(), (finished / "zarr.json").read_bytes()
    file.write_bytes(before[:-9])
    with pytest.raises(CacheError, match=r"camera/stride16/zarr\.json is missing or damaged.*copy"):
        make_writer(finished, variants=2)
    assert (finished / "zarr.json").read_bytes() == root


def test_a_command_never_fills_variants_that_another_has_added_while_it_started(
    place: StorePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would draw them as its own options say: none at all, say."""
    fill(make_writer(place))
    once_before(monkeypatch, cache.create, "StoreWriter", lambda: extend(place, 2))
    with pytest.raises(
        IdentityError, match=r"2 variants, but 1 were.*another command may have added"
    ):
        make_writer(place)


def test_shards_that_were_added_while_a_verification_started_are_not_foreign(
    finished: Path,
) -> None:
    store = open_store(finished)
    fill(make_writer(finished, variants=2))
    outcome = verify(store, repair=True)
    assert not outcome.damages
    assert not outcome.dropped
    (finished / "ledger/000077.json").write_text("{}")
    assert "came from a different store" in str(verify(store).damages[0])


def test_of_two_different_stores_created_at_once_in_a_bucket_one_is_whole(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, real = object_path(f"{s3}/train.zarr"), ObjectPath.is_file

    def is_file(path: ObjectPath) -> bool:
        if path.key == place.key:  # nothing is there, as has just been looked up
            monkeypatch.setattr(ObjectPath, "is_file", real)
            fill(make_writer(place, variants=2))
        return real(path)

    monkeypatch.setattr(ObjectPath, "is_file", is_file)
    with pytest.raises(IdentityError, match="has 2 variants, but 1 were asked for"):
        make_writer(place)
    assert variants_of_arrays(place) == {2}
    assert not verify(open_store(place)).damages


def test_what_another_creation_left_in_a_bucket_is_not_mixed_with_a_different_store(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = object_path(f"{s3}/train.zarr")
    with monkeypatch.context() as patch:
        real = ObjectPath.create_whole

        def killed(path: ObjectPath, content: bytes) -> bool:
            if str(path) == str(place / "zarr.json"):
                raise SystemExit
            return real(path, content)

        patch.setattr(ObjectPath, "create_whole", killed)
        with pytest.raises(SystemExit):
            make_writer(place, variants=2)
    before = place.sizes()
    with pytest.raises(CacheError, match=r"or was killed while it did.*delete what is below s3://"):
        make_writer(place)
    assert place.sizes() == before
    fill(make_writer(place, variants=2))  # the same command goes on
    assert not verify(open_store(place)).damages


def test_variants_are_added_in_a_bucket_that_knows_no_conditions(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CONDITIONAL_PUT", "disabled")
    place = object_path(f"{s3}/train.zarr")
    for variants in (1, 2):
        fill(make_writer(place, variants=variants))
    assert variants_of_arrays(place) == {2}
    assert not verify(open_store(place)).damages


def test_two_repairs_of_a_shard_move_its_entry_aside_once(
    place: StorePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(make_writer(place))
    ledger, kind = Ledger(place), type(place)
    fingerprint, entry = ledger.fingerprint(1), ledger.path(1)
    once_before(monkeypatch, kind, "move_aside", lambda: kind.move_aside(entry, ".damaged"))
    assert ledger.drop(1, fingerprint) is False
    assert [shard.index for shard in make_writer(place).pending()] == [1]


def test_a_store_does_not_hide_a_delta_that_was_created_in_its_place(tmp_path: Path) -> None:
    place = DirectoryPath(tmp_path / "place")

    def create(last: str, meanwhile: Callable[[], None] = lambda: None) -> None:
        with place.creating(last) as building:
            (building / last).write_text("{}")
            meanwhile()

    with pytest.raises(CacheError, match=r"not a feature store \(delta\.json is there\); choose"):
        create("zarr.json", lambda: create("delta.json"))
    assert place.sizes() == {"delta.json": 2}


def test_a_store_made_by_two_that_extend_it_in_turn_is_that_of_one(tmp_path: Path) -> None:
    for variants in (1, 2, 4):
        fill(make_writer(tmp_path / "grown", variants=variants))
    fill(make_writer(tmp_path / "whole", variants=4))
    grown, whole = (StoreWriter(tmp_path / name).store for name in ("grown", "whole"))
    assert grown.metadata.metadata_digests == whole.metadata.metadata_digests
    assert content_digest(grown) == content_digest(whole)
