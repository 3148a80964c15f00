"""Requests to a storage: repeated while that may help, and explained when it does not."""

import sys
from collections.abc import Callable

import pytest

import cache.storage.bucket
from cache.__main__ import main
from cache.storage.bucket import RemoteError
from cache.storage.location import for_each, parse_store_path
from cache.storage.object_path import ObjectPath, object_path
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
    flaky.faults, flaky.requests = ["refused"] * 9, []
    with pytest.raises(RemoteError, match="refuses these credentials: check AWS_ACCESS_KEY_ID"):
        thing.read_bytes()
    assert len(flaky.requests) == 1


def test_without_conditional_requests_the_last_entry_stays(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CONDITIONAL_PUT", "disabled")
    thing = object_path(f"{s3}/thing")
    assert thing.create(b"first")
    assert thing.create(b"second")
    assert thing.read_bytes() == b"second"


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
    """It would wait for ever for threads that it has not got: of the client, and of the pool."""
    monkeypatch.setattr(cache.storage.bucket.os, "getpid", lambda: 1)
    for opened in (thing, object_path(str(thing))):
        with pytest.raises(RemoteError, match='start workers with the method "spawn"'):
            opened.read_bytes()
        with pytest.raises(RemoteError, match='start workers with the method "spawn"'):
            for_each(opened, str, [1])
