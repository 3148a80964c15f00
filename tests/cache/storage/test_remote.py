"""A store on object storage is written, read, checked and repaired like one in a directory."""

import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.storage import ObjectStore

import cache.create
from cache.__main__ import main
from cache.coordination.claims import Claims, WorkerSlice, shards_to_do
from cache.coordination.free_space import measure_free_space, require_free_space
from cache.coordination.null_store import null_path, open_null
from cache.coordination.store import open_store
from cache.inspection.content_digest import content_digest
from cache.reader import CachedFeatures
from cache.storage.bucket import Bucket, connect
from cache.storage.directory import DirectoryPath
from cache.storage.location import store_path
from cache.storage.object_storage import ObjectPath, object_path
from cache.verification.verify_store import verify
from shared.data.features import as_floats
from shared.errors import CacheError
from tests.cache.conftest import (
    TOKENS,
    fill,
    fill_null,
    make_features,
    make_null_writer,
    make_writer,
    with_map,
)
from tests.conftest import new_bucket


@pytest.fixture(scope="module")
def stored(s3_server: tuple[str, int]) -> Iterator[ObjectPath]:
    """A finished store, like `finished` in a directory; tests must not write to it."""
    with pytest.MonkeyPatch.context() as patch:
        store = object_path(f"{new_bucket(s3_server, patch)}/some/train.zarr")
        fill(make_writer(store))
        yield store


@pytest.fixture
def place(s3: str) -> ObjectPath:
    """Where a store may be made."""
    return object_path(f"{s3}/some/train.zarr")


@pytest.fixture
def written(place: ObjectPath) -> ObjectPath:
    """The same, to be changed."""
    fill(make_writer(place))
    return place


def shard_object(store: ObjectPath, shard: int) -> ObjectPath:
    return store / f"lidar/stride8/c.0.{shard}.0.0.0"


@pytest.mark.parametrize("codec", ["zstd-1-shuffle", "pcodec", "uint8-lz4-bitshuffle"])
def test_what_is_read_is_what_a_directory_gives(
    place: ObjectPath, stores: dict[str, Path], codec: str
) -> None:
    fill(make_writer(place, codec=codec))
    here, there = CachedFeatures(stores[codec]), CachedFeatures(place)
    for ours, theirs in zip(here.read(TOKENS), there.read(TOKENS), strict=True):
        for name, values in ours.maps.items():
            assert np.array_equal(as_floats(values), as_floats(theirs.maps[name]))
        assert np.array_equal(ours.frame.img_from_lidar, theirs.frame.img_from_lidar)
        assert ours.frame.scene == theirs.frame.scene
    digests = {content_digest(open_store(path)) for path in (stores[codec], place)}
    assert digests == {content_digest(open_store(place), recompute=True)}


def test_plain_zarr_reads_the_same(stored: ObjectPath, finished: Path) -> None:
    client = ObjectStore(connect(stored.bucket.name), read_only=True)
    there = zarr.open_group(client, path=stored.key, mode="r")
    here = zarr.open_group(finished, mode="r")
    for name in ("camera/stride16", "lidar/stride8", "annotations/boxes_lidar", "samples/token"):
        ours, theirs = here[name], there[name]
        assert isinstance(ours, zarr.Array)
        assert isinstance(theirs, zarr.Array)
        assert np.array_equal(np.asarray(ours[:]), np.asarray(theirs[:]), equal_nan=True)


def test_files_are_byte_for_byte_those_of_a_directory(stored: ObjectPath, finished: Path) -> None:
    for name in ("lidar/stride8/c.0.2.0.0.0", "camera/stride16/zarr.json", "samples/token/c/0/0"):
        assert (stored / name).read_bytes() == (finished / name).read_bytes()


def test_a_store_resumes_at_the_first_shard_that_is_missing(place: ObjectPath) -> None:
    fill(make_writer(place), shards=1)
    assert not CachedFeatures(place).is_complete()
    assert [shard.index for shard in make_writer(place).pending()] == [1, 2]
    fill(make_writer(place))
    assert CachedFeatures(place).is_complete()
    assert not verify(open_store(place)).damages


def test_a_worker_only_extracts_its_own_slice(
    place: ObjectPath, caplog: pytest.LogCaptureFixture
) -> None:
    writer = make_writer(place, rows_per_shard=1)
    shards = shards_to_do(writer.store, WorkerSlice(number=2, of=3), Claims(writer.store))
    assert [shard.index for shard in shards] == [1, 4]
    assert "only extracts its own slice" in caplog.text


def test_damage_is_found_repaired_and_rebuilt(
    written: ObjectPath, capsys: pytest.CaptureFixture[str]
) -> None:
    digest, damaged = content_digest(open_store(written)), shard_object(written, 1)
    content = bytearray(damaged.read_bytes())
    content[3] ^= 4
    damaged.write_bytes(bytes(content))
    assert main(["verify", str(written), "--repair"]) == 1
    printed = capsys.readouterr().out
    assert "checksum of the row does not match" in printed
    assert "moved aside: ledger/000001.json (now *.damaged)" in printed
    writer = make_writer(written)
    assert [shard.index for shard in writer.pending()] == [1]
    fill(writer)
    assert main(["verify", str(written)]) == 0
    assert content_digest(open_store(written), recompute=True) == digest
    assert not (written / "ledger/000001.damaged").exists()


@pytest.mark.parametrize(
    ("length", "problem"), [(None, "is missing"), (0, "truncated to 0"), (9, "truncated to 9")]
)
def test_a_missing_or_truncated_object_is_damage(
    written: ObjectPath, length: int | None, problem: str
) -> None:
    damaged = shard_object(written, 0)
    content = damaged.read_bytes()
    damaged.unlink() if length is None else damaged.write_bytes(content[:length])
    with pytest.raises(CacheError, match=rf"stride8 of sample ant.*{problem}.*verify s3://"):
        CachedFeatures(written).read(["ant"])


def test_a_reader_notices_that_a_shard_was_replaced(written: ObjectPath) -> None:
    reader = CachedFeatures(written)
    before = reader.read(["ant"])[0].maps["lidar/stride8"]
    (written / "ledger/000000.json").unlink()
    shard = make_writer(written).pending()[0]
    zeros = np.zeros_like(make_features("ant").maps["lidar/stride8"])  # shorter when compressed
    ant = with_map(make_features("ant"), "lidar/stride8", zeros)
    make_writer(written).write_shard(shard, [ant, make_features("bee")])
    after = reader.read(["ant"])[0].maps["lidar/stride8"]
    assert as_floats(before).any()
    assert not as_floats(after).any()


def test_variants_are_added_to_it(place: ObjectPath) -> None:
    fill(make_writer(place))
    writer = make_writer(place, variants=2)
    assert len(writer.pending()) == 3
    fill(writer)
    assert CachedFeatures(place).variants == 2
    assert CachedFeatures(place).is_complete()
    assert not verify(open_store(place)).damages


def killed_before(patch: pytest.MonkeyPatch, name: str, *, of: ObjectPath) -> None:
    """End whoever is about to create this object."""
    real, last = ObjectPath.create_whole, str(of / name)

    def create_whole(path: ObjectPath, content: bytes) -> bool:
        if str(path) == last:
            raise SystemExit
        return real(path, content)

    patch.setattr(ObjectPath, "create_whole", create_whole)


def test_a_creation_that_was_killed_can_be_repeated(
    place: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        killed_before(patch, "zarr.json", of=place)
        with pytest.raises(SystemExit):
            make_writer(place)
    assert place.is_dir()
    with pytest.raises(CacheError, match="is not a feature store"):
        open_store(place)
    fill(make_writer(place))
    assert not verify(open_store(place)).damages


def test_a_store_created_meanwhile_by_another_worker_wins(
    place: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = cache.create._build

    def slow(*arguments: object) -> None:
        real(*arguments)  # type: ignore[arg-type]
        monkeypatch.setattr(cache.create, "_build", real)
        fill(make_writer(object_path(str(place))), shards=1)

    monkeypatch.setattr(cache.create, "_build", slow)
    assert len(make_writer(place).pending()) == 2


def test_null_features_that_another_worker_is_creating_are_not_there_yet(
    place: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_writer(place).store
    with monkeypatch.context() as patch:
        killed_before(patch, "zarr.json", of=null_path(place))
        with pytest.raises(SystemExit):
            make_null_writer(place)
    assert null_path(place).is_dir()
    assert open_null(store) is None
    fill_null(make_null_writer(place))
    assert open_null(store) is not None
    (null_path(place) / "zarr.json").unlink()
    with pytest.raises(CacheError, match=r"null/zarr\.json is lost"):
        open_null(store)


def test_foreign_objects_are_left_alone(place: ObjectPath) -> None:
    (place / "notes.txt").write_bytes(b"mine")
    with pytest.raises(CacheError, match=r"something other than a feature store at s3://"):
        make_writer(place)
    assert place.sizes() == {"notes.txt": 4}


def test_nothing_secret_is_stored(stored: ObjectPath) -> None:
    for key in stored.sizes():
        content = (stored / key).read_bytes()
        assert b"a-secret-of-mine" not in content
        assert b"some-key" not in content


def test_how_much_fits_is_not_known(stored: ObjectPath) -> None:
    store = open_store(stored)
    assert require_free_space(store).free_bytes is None
    assert measure_free_space(store).free == "free space not known on object storage"


def test_the_commands_take_its_url(
    stored: ObjectPath, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = str(stored)
    assert main(["show", url, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["store"] == url
    assert shown["bytes"]["on_disk"] == sum(stored.sizes().values())
    assert main(["show", url, "--picture", str(tmp_path / "store.png")]) == 0
    assert main(["diff", url, str(finished), url]) == 0
    capsys.readouterr()
    assert main(["digest", url]) == 0
    assert capsys.readouterr().out.strip() == content_digest(open_store(finished))


def test_a_reader_is_pickled_as_its_url(stored: ObjectPath) -> None:
    sent = pickle.dumps(CachedFeatures(stored))
    assert b"a-secret-of-mine" not in sent
    there = pickle.loads(sent)
    assert str(there.path) == str(stored)
    assert there.read(["cow"])[0].frame.token == "cow"


def test_a_row_costs_one_request_per_array_once_its_shard_is_known(
    stored: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = CachedFeatures(stored)
    reader.read(["ant"])
    tails: list[str] = []
    monkeypatch.setattr(Bucket, "read_tail", lambda _, key, __: tails.append(key))
    assert reader.read(["bee"])[0].frame.token == "bee"
    assert not tails


def test_a_directory_is_a_path_of_the_file_system() -> None:
    assert store_path("some/train.zarr") == Path("some/train.zarr")
    assert pickle.loads(pickle.dumps(store_path("some"))) == DirectoryPath("some")
