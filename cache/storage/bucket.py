"""Requests to a bucket of S3-compatible storage, repeated until they are answered.

Sent with obstore, the client inside `zarr.storage.ObjectStore`, which needs no event loop.
Endpoint, region and credentials come from the usual AWS environment variables and are written
nowhere.
"""

import errno
import logging
import os
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from shared.errors import CacheError, ConfigError

if TYPE_CHECKING:
    from obstore.store import S3Store

SCHEME = "s3://"
PATIENCE_S = 180.0  # how long a request is repeated before it counts as failed
REQUEST_S = 60  # how long an attempt may take; for a large object, each of its pieces
QUICK_RETRIES = 3  # by obstore itself, silently
FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 10.0  # between our own, each twice as long
CONNECTIONS = 16  # concurrent requests for one row, or for one look at the ledger
KEPT_TAILS = 2**19  # ends of objects kept in memory, 300 bytes each; `vov_1600x640` has 84,396

# What another attempt will not change. 408 and 429 mean "later", 5xx that the server is in trouble.
FINAL = re.compile(r"status code: (3|4(?!08|29))|Received non-partial response")
NO_CREDENTIALS = "169.254.169.254"  # where obstore looks last: only AWS machines have it

_log = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")


class RemoteError(CacheError):
    """A storage that does not answer, or refuses; says nothing about what is stored there."""


class ChangedError(Exception):
    """An object that was replaced since its end was read."""


@dataclass(frozen=True, slots=True)
class Tail:
    """The end of an object.

    Args:
        content: its last bytes, or all of them if it is shorter.
        size: bytes of the whole object.
        version: changes with the content; None where the storage does not say.
    """

    content: bytes
    size: int
    version: str | None


class Bucket:
    """A client of one bucket, with the ends of objects it has read; each process needs its own.

    Raises:
        ConfigError: if the extra `remote` is not installed, or the environment cannot be used.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._client = connect(name)
        self.tails: dict[str, Tail] = {}
        self._pool = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="remote")

    @property
    def pool(self) -> ThreadPoolExecutor:
        """Threads for concurrent requests."""
        self._require_first_user()
        return self._pool

    def request(self, key: str, send: Callable[["S3Store"], _Answer]) -> _Answer:
        """Send a request until it is answered.

        Args:
            key: the object concerned, for messages.
            send: sends the request; must be harmless when repeated.

        Raises:
            FileNotFoundError: if there is no such object.
            RemoteError: if it is refused, or not answered within `PATIENCE_S`.
        """
        from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

        self._require_first_user()
        deadline, wait_s = time.monotonic() + PATIENCE_S, FIRST_WAIT_S
        while True:
            try:
                return send(self._client)
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise self._refusal(key, error) from error
                where = f"{SCHEME}{self.name}/{key}"
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), where) from None
            except (AlreadyExistsError, PreconditionError):
                raise
            except BaseError as error:
                if time.monotonic() > deadline or _is_final(error):
                    raise self._refusal(key, error) from error
                _log.warning("%s; trying again", self._reason(key, error))
            time.sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    def read_tail(self, key: str, count: int) -> Tail:
        """Return the end of an object; FileNotFoundError if there is none."""

        def send(client: "S3Store") -> Tail:
            answer = client.get(key, options={"range": {"suffix": count}})
            return Tail(bytes(answer.bytes()), answer.meta["size"], answer.meta["e_tag"])

        try:
            return self.request(key, send)
        except RemoteError:  # what an empty object is answered with
            if self.request(key, lambda client: client.head(key)["size"]):
                raise
            return Tail(b"", 0, None)

    def read_range(self, key: str, start: int, count: int, version: str | None) -> bytes:
        """Return `count` bytes of an object from `start` on.

        Raises:
            FileNotFoundError: if it is not there.
            ChangedError: if it is no longer `version`.
        """
        from obstore.exceptions import PreconditionError

        options: Any = {"range": (start, start + count)}
        if version is not None:
            options["if_match"] = version
        try:
            return self.request(key, lambda client: bytes(client.get(key, options=options).bytes()))
        except PreconditionError as error:
            raise ChangedError from error

    def _require_first_user(self) -> None:
        if os.getpid() != _first_user():  # it has none of the threads: it would wait forever
            raise RemoteError(
                f"{SCHEME}{self.name} cannot be used by a process that was forked from one that "
                'has used object storage; start workers with the method "spawn"'
            )

    def _reason(self, key: str, error: Exception) -> str:
        """Return object and reason, without the markup and debug output that obstore adds."""
        text = str(error)
        what = re.split(r": <|\n", text)[0].rpartition(" - ")[2].strip(" :")
        cause = re.search(r'message: "([^"]+)"', text)  # of the system, e.g. "Connection refused"
        return f"{SCHEME}{self.name}/{key}: {what}" + (f" ({cause[1]})" if cause else "")

    def _refusal(self, key: str, error: Exception) -> RemoteError:
        from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

        if "NoSuchBucket" in str(error):
            remedy = (
                f"There is no bucket {self.name} at {_endpoint()}: create it, or correct the "
                "store's URL, AWS_ENDPOINT_URL or AWS_REGION"
            )
        elif NO_CREDENTIALS in str(error):
            remedy = (
                "No credentials were found. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and "
                "AWS_SESSION_TOKEN); profiles in ~/.aws are not read, but `aws configure "
                "export-credentials --format env` prints one as variables"
            )
        elif isinstance(error, PermissionDeniedError | UnauthenticatedError):
            remedy = (
                f"{_endpoint()} refuses these credentials: check AWS_ACCESS_KEY_ID, "
                "AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, and that they may list the bucket "
                "and get, put and delete its objects"
            )
        else:
            remedy = (
                f"Check that {_endpoint()} can be reached from here (AWS_ENDPOINT_URL, "
                "AWS_REGION). Nothing is known to be damaged and finished shards are kept; run the "
                "same command again when this is solved"
            )
        return RemoteError(f"{self._reason(key, error)}. {remedy}")


def connect(bucket: str) -> "S3Store":
    """Return a client configured from the environment; sends no request."""
    try:
        from obstore.exceptions import BaseError
        from obstore.store import S3Store
    except ImportError as error:
        raise ConfigError(
            f"a store on {SCHEME} needs obstore, which is not installed here: "
            "pip install 'frozen-cmt[remote]'"
        ) from error
    try:
        return S3Store(
            bucket,
            client_options={"allow_http": True, "timeout": timedelta(seconds=REQUEST_S)},
            retry_config={
                "max_retries": QUICK_RETRIES,
                "retry_timeout": timedelta(seconds=PATIENCE_S),
                "backoff": {"init_backoff": timedelta(seconds=FIRST_WAIT_S)},
            },
        )
    except BaseError as error:
        raise ConfigError(f"the AWS_* variables cannot be used: {error}") from error


@cache
def _first_user() -> int:
    """Return the process that was first to send a request: this one or one it was forked from."""
    return os.getpid()


def _is_final(error: Exception) -> bool:
    """Return whether another attempt would end the same way."""
    from obstore.exceptions import GenericError

    text = str(error)
    return type(error) is not GenericError or bool(FINAL.search(text)) or NO_CREDENTIALS in text


def _endpoint() -> str:
    """Return where requests are sent."""
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    return next((os.environ[name] for name in names if os.environ.get(name)), "AWS")
