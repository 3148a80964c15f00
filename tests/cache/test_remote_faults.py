"""A storage that fails for a while is asked again; one that refuses is a message, and no loss."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import cache.bucket
from cache.__main__ import main
from cache.bucket import RemoteError
from cache.digest import content_digest
from cache.reader import CachedFeatures
from cache.remote import ObjectPath, object_path
from cache.samples import read_samples
from cache.storage import parse_store_path
from cache.store import open_store
from cache.verification import verify
from cache.writer import StoreWriter
from shared.errors import CacheError, ConfigError
from tests.cache.conftest import fill, make_features, make_writer, with_map
from tests.flaky_server import Flaky, flaky_server

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def flaky(s3: str, s3_server: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> Iterator[Flaky]:
    """A server before the other one, and little patience with it."""
    monkeypatch.setattr(cache.bucket, "FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(cache.bucket, "PATIENCE_S", 0.05)
    monkeypatch.setattr(cache.bucket, "QUICK_RETRIES", 0)
    with flaky_server(s3_server) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        yield server


@pytest.fixture
def thing(flaky: Flaky, s3: str) -> ObjectPath:
    """An object of ten bytes behind the flaky server."""
    path = object_path(f"{s3}/some/thing")
    path.write_bytes(b"0123456789")
    return path


USES: dict[str, Callable[[ObjectPath], object]] = {
    "read": lambda path: path.read_bytes(),
    "tail": lambda path: path.read_tail(3).content,
    "range": lambda path: path.read_range(2, 3, None),
    "write": lambda path: path.write_bytes(b"0123456789"),
    "create": lambda path: ObjectPath(path.bucket, "some/new").create(b"x"),
    "names": lambda path: ObjectPath(path.bucket, "some").names(),
    "sizes": lambda path: ObjectPath(path.bucket, "some").sizes(),
    "move": lambda path: path.replace(ObjectPath(path.bucket, "some/other")),
}


@pytest.mark.parametrize(
    ("use", "fault"),
    [
        (use, fault)
        for use in USES
        for fault in ("busy", "reset", "half", "lost")
        if (use, fault) not in {("write", "half"), ("create", "half")}  # their answer is empty
    ],
)
def test_what_fails_for_a_while_is_repeated(
    thing: ObjectPath, flaky: Flaky, fault: str, use: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache.bucket, "PATIENCE_S", 10.0)
    flaky.faults = [fault, fault]
    expected = {
        "read": b"0123456789",
        "tail": b"789",
        "range": b"234",
        "create": True,
        "names": ["thing"],
        "sizes": {"thing": 10},
    }
    assert USES[use](thing) == expected.get(use)
    assert not flaky.faults
    assert thing.is_file() == (use != "move")


def test_a_request_that_is_repeated_is_said(
    thing: ObjectPath, flaky: Flaky, caplog: pytest.LogCaptureFixture
) -> None:
    flaky.faults = ["busy"]
    thing.read_bytes()
    assert "some/thing: " in caplog.text
    assert "503 Service Unavailable; trying again" in caplog.text


@pytest.mark.parametrize("fault", ["busy", "reset"])
@pytest.mark.parametrize("use", USES)
def test_in_the_end_the_message_says_what_failed_and_what_to_do(
    thing: ObjectPath, flaky: Flaky, fault: str, use: str
) -> None:
    flaky.faults = [fault] * 1000
    with pytest.raises(RemoteError) as caught:
        USES[use](thing)
    said = str(caught.value)
    assert said.startswith(f"s3://{thing.bucket.name}/some")
    assert f"Check that {flaky.url} can be reached" in said
    assert "run the same command again" in said
    assert "Debug" not in said
    assert "secret" not in said


def test_a_refusal_is_not_repeated_and_names_the_variables(thing: ObjectPath, flaky: Flaky) -> None:
    flaky.faults, flaky.seen = ["refused"] * 9, []
    with pytest.raises(RemoteError, match="refuses these credentials: check AWS_ACCESS_KEY_ID"):
        thing.read_bytes()
    assert len(flaky.seen) == 1


def test_a_damaged_list_of_samples_is_not_what_a_silent_storage_looks_like(
    flaky: Flaky, s3: str
) -> None:
    store = object_path(f"{s3}/train.zarr")
    digest = make_writer(store).store.metadata.samples_digest
    flaky.part, flaky.faults = "samples/scene", ["busy"] * 1000
    with pytest.raises(RemoteError, match="can be reached from here"):
        read_samples(store, digest)


def test_a_store_written_and_read_through_faults_is_whole(
    flaky: Flaky, s3: str, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache.bucket, "PATIENCE_S", 30.0)
    store = object_path(f"{s3}/train.zarr")
    flaky.faults = ["busy", "", "", "reset", "", "", "half", "", "", "lost", "", ""] * 12
    fill(make_writer(store))
    assert content_digest(open_store(store), recompute=True) == content_digest(open_store(finished))
    assert not flaky.faults


def test_an_outage_while_writing_keeps_finished_shards(flaky: Flaky, s3: str) -> None:
    store = object_path(f"{s3}/train.zarr")
    writer = make_writer(store)
    fill(writer, shards=1)
    flaky.method, flaky.part, flaky.faults = "PUT", "lidar/stride16/c.0.1", ["busy"] * 1000
    with pytest.raises(CacheError, match=r"lidar/stride16/c\.0\.1.*finished shards are kept"):
        fill(writer, shards=1)
    flaky.faults = []
    assert [shard.index for shard in make_writer(store).pending()] == [1, 2]


def test_an_outage_while_verifying_is_no_damage(flaky: Flaky, s3: str) -> None:
    store = object_path(f"{s3}/train.zarr")
    fill(make_writer(store))
    flaky.part, flaky.faults = "lidar/stride16/c.0.1", ["busy"] * 1000
    with pytest.raises(RemoteError, match="Nothing is known to be damaged"):
        verify(open_store(store))


def meanwhile(monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]) -> None:
    """Let something happen once, between a worker's arrays and its ledger entry."""
    real = StoreWriter._write_arrays

    def slow(self: StoreWriter, *rest: object, **options: object) -> int:
        size = real(self, *rest, **options)  # type: ignore[arg-type]
        monkeypatch.setattr(StoreWriter, "_write_arrays", real)
        work()
        return size

    monkeypatch.setattr(StoreWriter, "_write_arrays", slow)


def test_of_two_workers_on_a_shard_the_first_entry_stays(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = object_path(f"{s3}/train.zarr")
    ours, theirs = make_writer(store), make_writer(store)
    entries: list[bytes] = []

    def work() -> None:
        fill(theirs, shards=1)
        entries.append((store / "ledger/000000.json").read_bytes())

    meanwhile(monkeypatch, work)
    shard = ours.pending()[0]
    rows = [make_features(token) for token in shard.tokens]
    assert ours.write_shard(shard, rows) is False
    assert (store / "ledger/000000.json").read_bytes() == entries[0]
    assert not verify(open_store(store)).damages


def test_of_two_workers_whose_numbers_differ_one_has_the_whole_shard(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on two kinds of GPU, whose last bits may differ."""
    store = object_path(f"{s3}/train.zarr")
    ours, theirs = make_writer(store), make_writer(store)
    shard = ours.pending()[0]
    rows = [make_features(token) for token in shard.tokens]
    other = rows[0].maps["lidar/stride16"] + 1
    meanwhile(
        monkeypatch,
        lambda: (
            theirs.write_shard(shard, [with_map(rows[0], "lidar/stride16", other), rows[1]])
            and None
        ),
    )
    assert ours.write_shard(shard, rows) is True
    assert not verify(open_store(store)).damages
    assert CachedFeatures(store).read(shard.tokens)


def test_without_conditional_requests_the_last_entry_stays(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CONDITIONAL_PUT", "disabled")
    thing = object_path(f"{s3}/thing")
    assert thing.create(b"first")
    assert thing.create(b"second")
    assert thing.read_bytes() == b"second"


KILLED = """
import os, signal, sys
from cache.remote import ObjectPath, object_path
from tests.cache.conftest import fill, make_writer

real, left = ObjectPath.write_bytes, int(sys.argv[2])
writer = make_writer(object_path(sys.argv[1]))

def write_bytes(self, content):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    real(self, content)

ObjectPath.write_bytes = write_bytes
fill(writer)
"""


def test_a_killed_writer_loses_one_shard(s3: str, finished: Path) -> None:
    store = object_path(f"{s3}/train.zarr")
    arrays = len(open_store(finished).arrays)
    command = [sys.executable, "-c", KILLED, str(store), str(arrays + 5)]
    assert subprocess.run(command, cwd=REPOSITORY).returncode == -signal.SIGKILL
    writer = make_writer(store)
    assert [shard.index for shard in writer.pending()] == [1, 2]
    fill(writer)
    assert content_digest(open_store(store), recompute=True) == content_digest(open_store(finished))


def test_a_missing_bucket_is_named(s3: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", f"{s3}-not/train.zarr"]) == 1
    said = capsys.readouterr().err
    assert f"There is no bucket {s3[5:]}-not at http://127.0.0.1" in said
    with pytest.raises(RemoteError, match="There is no bucket"):
        make_writer(object_path(f"{s3}-not/train.zarr"))


def test_a_prefix_without_a_store_is_none(s3: str) -> None:
    with pytest.raises(CacheError, match=r"s3://.*nothing\.zarr is not a feature store"):
        CachedFeatures(object_path(f"{s3}/nothing.zarr"))


def test_without_the_extra_a_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(ConfigError, match=r"pip install 'frozen-cmt\[remote\]'"):
        parse_store_path("s3://bucket/train.zarr")


def test_a_password_in_a_url_is_refused_and_not_repeated(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["show", "s3://key:hush@bucket/train.zarr"])
    said = capsys.readouterr().err
    assert "credentials and endpoint belong into the environment" in said
    assert "hush" not in said


@pytest.mark.parametrize("url", ["s3://bucket", "s3://bucket/", "s3://bucket/a//b", "s3://b/../c"])
def test_a_url_that_names_no_place_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"s3://bucket/path|names no place"):
        parse_store_path(url)


def test_another_scheme_is_not_taken_for_a_directory() -> None:
    with pytest.raises(ConfigError, match=r"in a directory or on s3://, not on gs://"):
        parse_store_path("gs://bucket/train.zarr")


def test_a_forked_process_is_told_to_be_spawned(
    thing: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache.bucket.os, "getpid", lambda: 1)
    with pytest.raises(RemoteError, match='start workers with the method "spawn"'):
        thing.read_bytes()
