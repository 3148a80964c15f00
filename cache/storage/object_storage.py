"""A store on S3-compatible object storage: objects, named like files.

An object is put completely or not at all, so half a shard cannot exist. There is no rename, and
there are no locks: `cache.storage.protocol` says what takes their place.
"""

import errno
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import ObjectStore

from cache.storage.bucket import KEPT_TAILS, SCHEME, Bucket, ChangedError
from cache.storage.object_creation import creating_objects
from cache.storage.protocol import Buffer, Locate
from shared.errors import ConfigError
from shared.process.file_lock import NoLocksError

if TYPE_CHECKING:
    from obstore import UpdateVersion
    from obstore.store import S3Store

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class ObjectPath:
    """The name of an object, or of all objects below it; see `protocol.StorePath`.

    Pickled as its URL. Every method that sends a request may raise `RemoteError`.

    Args:
        bucket: where the object is.
        key: path inside the bucket, without slashes at its ends.
    """

    creates_at_once: ClassVar[bool] = False

    bucket: Bucket
    key: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket.name}/{self.key}"

    def __reduce__(self) -> tuple[Callable[[str], "ObjectPath"], tuple[str]]:
        return object_path, (str(self),)

    def __truediv__(self, below: str) -> "ObjectPath":
        return ObjectPath(self.bucket, f"{self.key}/{below}")

    @property
    def name(self) -> str:
        """The last name in the key."""
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> "ObjectPath":
        """The name without what follows its last slash."""
        return ObjectPath(self.bucket, self.key.rpartition("/")[0])

    def with_suffix(self, suffix: str) -> "ObjectPath":
        """Return the path with everything after the last dot of its name replaced."""
        return ObjectPath(self.bucket, self.key.rpartition(".")[0] + suffix)

    def read_bytes(self) -> bytes:
        """Return the whole object; FileNotFoundError if there is none."""
        return self.bucket.request(self.key, lambda client: bytes(client.get(self.key).bytes()))

    def is_file(self) -> bool:
        """Return whether there is such an object."""
        try:
            self.read_bytes()  # only small objects are asked for; a HEAD is no faster
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        """Return whether there is something below."""
        return self.bucket.request(self.key, lambda client: any(client.list(self.key)))

    def exists(self) -> bool:
        """Return whether there is such an object, or something below."""
        return self.is_file() or self.is_dir()

    def unique_place(self) -> str:
        """Return the URL."""
        return str(self)

    def names(self) -> Iterator[str]:
        """Yield the names of the objects directly below."""
        objects = self.bucket.request(
            self.key, lambda client: client.list_with_delimiter(self.key)["objects"]
        )
        for meta in objects:
            yield meta["path"].rpartition("/")[2]

    def sizes(self) -> dict[str, int]:
        """Return the bytes of every object below, by its key from here."""
        start = len(self.key) + 1
        return self.bucket.request(
            self.key,
            lambda client: {
                meta["path"][start:]: meta["size"]
                for page in client.list(self.key)
                for meta in page
            },
        )

    def free_bytes(self) -> None:
        """Return None: object storage does not say how much still fits."""

    def read_located(self, tail_bytes: int, locate: Locate) -> Iterator[Buffer]:
        """Read a range of an object, in one piece; the object's end is kept for the next range."""
        tails = self.bucket.tails
        for version_counts in (True, True, False):  # the last for a storage with wrong versions
            tail = tails.get(self.key) or self.bucket.read_tail(self.key, tail_bytes)
            start, buffer = locate(tail.content, tail.size)
            try:
                version = tail.version if version_counts else None
                content = self.bucket.read_range(self.key, start, len(buffer), version)
            except ChangedError:  # rebuilt since
                tails.pop(self.key, None)
                continue
            if tail.version is not None:
                if len(tails) >= KEPT_TAILS:
                    tails.clear()
                tails[self.key] = tail
            piece = buffer[: len(content)]
            piece[:] = np.frombuffer(content, np.uint8)
            yield piece
            return
        raise AssertionError("a request without a condition cannot fail one")

    def write_bytes(self, content: bytes) -> None:
        """Put an object, or replace it."""
        self.bucket.request(self.key, lambda client: client.put(self.key, content))

    def write_whole(self, chunks: Iterable[bytes], *, is_cached: bool = True) -> None:
        """Put an object, which is complete or absent by itself, and never in this memory."""
        self.write_bytes(b"".join(chunks))

    def create_whole(self, content: bytes) -> bool:
        """Put a small object unless there is one; return whether it has our content now.

        A storage that does not support this condition keeps whichever was put last.
        """
        from obstore.exceptions import AlreadyExistsError

        try:
            self.bucket.request(
                self.key,
                lambda client: client.put(self.key, content, mode="create", use_multipart=False),
            )
        except AlreadyExistsError:
            return self.read_bytes() == content  # an attempt of ours whose answer was lost
        except NotImplementedError:  # AWS_CONDITIONAL_PUT=disabled
            self.write_bytes(content)
        return True

    def replace_whole(self, before: bytes, content: bytes) -> bool:
        """Put a small object if the present one is still `before`; see `protocol.StorePath`.

        A storage that does not support this condition may lose what is put at the same moment.
        """
        from obstore.exceptions import PreconditionError

        def send(client: "S3Store") -> bool:
            answer = client.get(self.key)
            version: UpdateVersion = {"e_tag": answer.meta["e_tag"]}
            if bytes(answer.bytes()) != before:
                return False
            client.put(self.key, content, mode=version, use_multipart=False)
            return True

        try:
            is_replaced = self.bucket.request(self.key, send)
        except PreconditionError:
            is_replaced = False
        except NotImplementedError:  # AWS_CONDITIONAL_PUT=disabled
            self.write_bytes(content)
            return True
        return is_replaced or self.read_bytes() == content  # an attempt whose answer was lost

    def move_aside(self, suffix: str) -> None:
        """Give an object a different suffix: it is copied, then deleted."""
        target = self.with_suffix(suffix).key
        self.bucket.request(self.key, lambda client: client.copy(self.key, target))
        self.unlink()

    def remove_partials(self) -> None:
        """Do nothing: what a killed writer leaves is in no listing (cache/README.md)."""

    def lock(self, *, is_patient: bool) -> IO[str] | None:
        """Raise `NoLocksError`: object storage has no locks."""
        raise NoLocksError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    def creating(self, last: str) -> AbstractContextManager[Path]:
        """Put the objects of a folder when the block ends without an error, `last` last."""
        return creating_objects(self, last)

    def for_each(
        self, work: Callable[[_Item], _Result], items: Iterable[_Item]
    ) -> Iterator[_Result]:
        """Yield the result for every item in order; several wait for answers at a time."""
        return self.bucket.pool.map(work, items)

    def unlink(self, missing_ok: bool = True) -> None:
        """Delete an object; it is no error if there is none."""
        self.bucket.request(self.key, lambda client: client.delete(self.key))

    def read_array(self) -> NDArray[Any]:
        """Return all values of the Zarr array here, read by Zarr."""

        def send(client: "S3Store") -> NDArray[Any]:
            store = ObjectStore(client, read_only=True)
            array = zarr.open_array(store, mode="r", path=self.key, zarr_format=3)
            return np.asarray(array[:])

        return self.bucket.request(self.key, send)


def object_path(url: str) -> ObjectPath:
    """Return the place that an s3:// URL names.

    Raises:
        ConfigError: if it is not of the form s3://bucket/path, or the extra `remote` is not
            installed.
    """
    bucket, _, key = url.removeprefix(SCHEME).partition("/")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]+", bucket):
        raise ConfigError(  # the URL is not shown: it may contain a password
            "the URL of a store is of the form s3://bucket/path/train.zarr; credentials and "
            "endpoint belong in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, "
            "AWS_ENDPOINT_URL, AWS_REGION)"
        )
    names = key.rstrip("/").split("/")
    if any(name in ("", ".", "..") for name in names):
        raise ConfigError(
            f"{url} does not name a place for a store; expected {SCHEME}{bucket}/path"
        )
    return ObjectPath(Bucket(bucket), "/".join(names))
