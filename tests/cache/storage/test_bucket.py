"""Requests to object storage: repeated while that may help, and explained when it does not."""

import os
import sys
from collections.abc import Callable

import pytest

import cache.storage.bucket
from cache.__main__ import main
from cache.storage.bucket import RemoteError
from cache.storage.location import parse_store_path
from cache.storage.object_storage import ObjectPath, object_path
from shared.errors import ConfigError
from tests.flaky_server import Flaky


@pytest.fixture
def thing(flaky: Flaky, s3: str) -> ObjectPath:
    """An object of ten bytes behind the flaky server."""
    path = object_path(f"{s3}/some/thing")
    path.write_bytes(b"0123456789")
    return path


USES: dict[str, Callable[[ObjectPath], object]] = {
    "read": lambda path: path.read_bytes(),
    "tail": lambda path: path.bucket.read_tail(path.key, 3).content,
    "range": lambda path: path.bucket.read_range(path.key, 2, 3, None),
    "write": lambda path: path.write_bytes(b"0123456789"),
    "create": lambda path: ObjectPath(path.bucket, "some/new").create_whole(b"x"),
    "names": lambda path: list(ObjectPath(path.bucket, "some").names()),
    "sizes": lambda path: ObjectPath(path.bucket, "some").sizes(),
    "move": lambda path: path.move_aside(".moved"),
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
    monkeypatch.setattr(cache.storage.bucket, "PATIENCE_S", 10.0)
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


def test_a_repeated_request_is_logged(
    thing: ObjectPath, flaky: Flaky, caplog: pytest.LogCaptureFixture
) -> None:
    flaky.faults = ["busy"]
    thing.read_bytes()
    assert "some/thing: " in caplog.text
    assert "503 Service Unavailable; trying again" in caplog.text


@pytest.mark.parametrize("fault", ["busy", "reset"])
@pytest.mark.parametrize("use", USES)
def test_the_final_message_says_what_failed_and_what_to_do(
    thing: ObjectPath, flaky: Flaky, fault: str, use: str
) -> None:
    flaky.faults = [fault] * 1000
    with pytest.raises(RemoteError) as caught:
        USES[use](thing)
    message = str(caught.value)
    assert message.startswith(f"s3://{thing.bucket.name}/some")
    assert f"Check that {flaky.url} can be reached" in message
    assert "run the same command again" in message
    assert "Debug" not in message
    assert "secret" not in message


def test_a_refusal_is_not_repeated_and_names_the_variables(thing: ObjectPath, flaky: Flaky) -> None:
    flaky.faults, flaky.requests = ["refused"] * 9, []
    with pytest.raises(RemoteError, match="refuses these credentials: check AWS_ACCESS_KEY_ID"):
        thing.read_bytes()
    assert len(flaky.requests) == 1


def test_without_conditional_requests_the_last_entry_stays(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CONDITIONAL_PUT", "disabled")
    thing = object_path(f"{s3}/thing")
    assert thing.create_whole(b"first")
    assert thing.create_whole(b"second")
    assert thing.read_bytes() == b"second"


def test_without_the_extra_a_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(ConfigError, match=r"pip install 'frozen-cmt\[remote\]'"):
        parse_store_path("s3://bucket/train.zarr")


def test_a_password_in_a_url_is_refused_and_not_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["show", "s3://key:hush@bucket/train.zarr"])
    message = capsys.readouterr().err
    assert "credentials and endpoint belong in the environment" in message
    assert "hush" not in message


@pytest.mark.parametrize("url", ["s3://bucket", "s3://bucket/", "s3://bucket/a//b", "s3://b/../c"])
def test_a_url_without_a_path_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"s3://bucket/path|does not name a place"):
        parse_store_path(url)


def test_a_different_scheme_is_not_taken_for_a_directory() -> None:
    with pytest.raises(ConfigError, match=r"in a directory or on s3://, not on gs://"):
        parse_store_path("gs://bucket/train.zarr")


def test_a_forked_process_is_told_to_be_spawned(
    thing: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would wait forever for threads that it does not have: of the client, and of the pool."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    for opened in (thing, object_path(str(thing))):
        with pytest.raises(RemoteError, match='start workers with the method "spawn"'):
            opened.read_bytes()
        with pytest.raises(RemoteError, match='start workers with the method "spawn"'):
            opened.for_each(str, [1])
