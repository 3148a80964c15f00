"""Objects of an S3-compatible storage: named like files, with the few verbs a store needs.

An object is put whole or not at all, so a half shard cannot exist. There is no rename, and there
are no locks: `cache.storage.location` says what takes their place.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import ObjectStore

from cache.storage.bucket import SCHEME, Bucket, RemoteError, Tail
from shared.errors import ConfigError

if TYPE_CHECKING:
    from obstore.store import S3Store


class ChangedError(Exception):
    """An object that was replaced since its end was read."""


@dataclass(frozen=True, slots=True)
class ObjectPath:
    """The name of an object, or of all that begin with it and a slash; verbs as of `pathlib.Path`.

    Travels to other processes as its URL. All but joining names may raise `RemoteError`.

    Args:
        bucket: where.
        key: path inside it, without slashes at its ends.
    """

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
        """The last part of the key."""
        return self.key.rpartition("/")[2]

    def with_suffix(self, suffix: str) -> "ObjectPath":
        """Return the path with the end of its name from the last dot on exchanged."""
        return ObjectPath(self.bucket, self.key.rpartition(".")[0] + suffix)

    def read_bytes(self) -> bytes:
        """Return the whole object; FileNotFoundError if there is none."""
        return self.bucket.request(self.key, lambda client: bytes(client.get(self.key).bytes()))

    def read_tail(self, count: int) -> Tail:
        """Return the end of the object; FileNotFoundError if there is none."""

        def send(client: "S3Store") -> Tail:
            answer = client.get(self.key, options={"range": {"suffix": count}})
            return Tail(bytes(answer.bytes()), answer.meta["size"], answer.meta["e_tag"])

        try:
            return self.bucket.request(self.key, send)
        except RemoteError:  # the answer where the object is empty
            if self.bucket.request(self.key, lambda client: client.head(self.key)["size"]):
                raise
            return Tail(b"", 0, None)

    def read_range(self, start: int, count: int, version: str | None) -> bytes:
        """Return `count` bytes of the object from `start` on.

        Raises:
            FileNotFoundError: if it is not there.
            ChangedError: if it is not `version` any more.
        """
        from obstore.exceptions import PreconditionError

        options: Any = {"range": (start, start + count)}
        if version is not None:
            options["if_match"] = version
        try:
            return self.bucket.request(
                self.key, lambda client: bytes(client.get(self.key, options=options).bytes())
            )
        except PreconditionError as error:
            raise ChangedError from error

    def is_file(self) -> bool:
        """Return whether there is such an object."""
        try:
            self.read_bytes()  # of the small ones that are asked for; a HEAD is no faster
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        """Return whether there is something below."""
        return self.bucket.request(self.key, lambda client: any(client.list(self.key)))

    def exists(self) -> bool:
        """Return whether there is such an object, or something below."""
        return self.is_file() or self.is_dir()

    def names(self) -> list[str]:
        """Return the names of the objects right below."""
        found = self.bucket.request(
            self.key, lambda client: client.list_with_delimiter(self.key)["objects"]
        )
        return [one["path"].rpartition("/")[2] for one in found]

    def sizes(self) -> dict[str, int]:
        """Return the bytes of every object below, by its key from here on."""
        start = len(self.key) + 1
        return self.bucket.request(
            self.key,
            lambda client: {
                one["path"][start:]: one["size"] for some in client.list(self.key) for one in some
            },
        )

    def write_bytes(self, content: bytes) -> None:
        """Put an object, or replace the one that is there."""
        self.bucket.request(self.key, lambda client: client.put(self.key, content))

    def create(self, content: bytes) -> bool:
        """Put a small object unless one is there; return whether ours is there now.

        A storage that does not know such a condition keeps whichever came last.
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

    def replace(self, target: "ObjectPath") -> None:
        """Move an object: copied, then deleted."""
        self.bucket.request(self.key, lambda client: client.copy(self.key, target.key))
        self.unlink()

    def unlink(self, missing_ok: bool = True) -> None:
        """Delete an object; that there is none is no error on such a storage."""
        self.bucket.request(self.key, lambda client: client.delete(self.key))

    def read_array(self) -> NDArray[Any]:
        """Return all values of the Zarr array here, read by Zarr."""

        def send(client: "S3Store") -> NDArray[Any]:
            store = ObjectStore(client, read_only=True)
            array = zarr.open_array(store, mode="r", path=self.key, zarr_format=3)
            return np.asarray(array[:])

        return self.bucket.request(self.key, send)


def object_path(url: str) -> ObjectPath:
    """Open what an s3:// URL names.

    Raises:
        ConfigError: if it is not of the form s3://bucket/path, or the extra is not installed.
    """
    bucket, _, key = url.removeprefix(SCHEME).partition("/")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]+", bucket):
        raise ConfigError(  # not shown: it may be one with a password
            "the URL of a store is of the form s3://bucket/path/train.zarr; credentials and "
            "endpoint belong into the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, "
            "AWS_ENDPOINT_URL, AWS_REGION)"
        )
    parts = key.rstrip("/").split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise ConfigError(f"{url} names no place for a store; expected {SCHEME}{bucket}/path")
    return ObjectPath(Bucket(bucket), "/".join(parts))
