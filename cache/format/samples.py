"""Which samples a store holds: tokens, scenes and times, fixed when it is created.

Three Zarr arrays of one chunk each, read once when a store is opened. Text lies as ASCII bytes of
fixed length, padded with zero bytes, because Zarr v3 has no settled string type.
"""

import hashlib
import json
from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from cache.format.codec import ZSTD
from cache.format.texts import Texts
from cache.storage.bucket import RemoteError
from cache.storage.location import StorePath, read_array
from shared.errors import CacheError

GROUP = "samples"
PART = 1024  # samples of the digest at a time


class Samples:
    """The samples of a store, in its order; kept small, a store may have a million.

    Args:
        tokens: nuScenes sample tokens, each once.
        scenes: scene token of each.
        timestamps_us: time of the LiDAR keyframe of each, microseconds.

    Raises:
        CacheError: if these do not fit together, or there is none, or one twice.
    """

    def __init__(
        self, *, tokens: Sequence[str], scenes: Sequence[str], timestamps_us: Sequence[int]
    ) -> None:
        if not len(tokens) == len(scenes) == len(timestamps_us):
            raise CacheError(
                f"{len(tokens)} tokens, {len(scenes)} scenes and "
                f"{len(timestamps_us)} timestamps do not belong together"
            )
        if not tokens:
            raise CacheError("there are no samples to store; check the split and the data root")
        self.tokens = tokens if isinstance(tokens, Texts) else Texts.of(tokens)
        self.scenes = scenes if isinstance(scenes, Texts) else Texts.of(scenes)
        self.timestamps_us = array("q", timestamps_us)  # a fifth of Python's numbers
        self._by_token = np.argsort(self.tokens.ascii)
        in_order = self.tokens.ascii[self._by_token]
        twice = in_order[1:][in_order[1:] == in_order[:-1]]
        if len(twice):
            token = twice[0].decode()
            raise CacheError(f"sample {token} is listed twice; a store holds each sample once")

    def position(self, token: str) -> int | None:
        """Return where in the list a token is, None if it is not there."""
        wanted = np.bytes_(token.encode("ascii", "replace"))
        place = int(np.searchsorted(self.tokens.ascii, wanted, sorter=self._by_token))
        found = int(self._by_token[min(place, len(self.tokens) - 1)])
        return found if self.tokens[found] == token else None

    @property
    def digest(self) -> str:
        """Digest of the whole list, in its order: `json_digest` of the three, part by part."""
        digest = hashlib.sha256()
        before = "[["
        for column in (self.tokens, self.scenes, self.timestamps_us):
            for start in range(0, len(column), PART):
                part = json.dumps(list(column[start : start + PART]), separators=(",", ":"))
                digest.update(f"{before}{part[1:-1]}".encode())
                before = ","
            before = "],["
        digest.update(b"]]")
        return digest.hexdigest()


def write_samples(root: zarr.Group, samples: Samples) -> None:
    """Create the three arrays in a new store."""
    columns: dict[str, tuple[NDArray[Any], tuple[str, ...]]] = {
        "token": (samples.tokens.packed, ("sample", "byte")),
        "scene": (samples.scenes.packed, ("sample", "byte")),
        "timestamp_us": (np.array(samples.timestamps_us, np.int64), ("sample",)),
    }
    for name, (values, dims) in columns.items():
        root.create_array(
            f"{GROUP}/{name}",
            data=values,
            chunks=values.shape,
            compressors=ZSTD.in_zarr(values.itemsize).compressors,
            dimension_names=dims,
        )


def read_samples(path: StorePath, digest: str) -> Samples:
    """Read the sample list of the store at `path`.

    Args:
        path: the store.
        digest: what the root group recorded; Zarr returns zeros for a chunk that is not there.

    Raises:
        CacheError: if it is missing or damaged.
    """
    try:
        tokens, scenes, timestamps_us = (
            read_array(path / GROUP / name) for name in ("token", "scene", "timestamp_us")
        )
        samples = Samples(
            tokens=Texts(tokens), scenes=Texts(scenes), timestamps_us=array("q", timestamps_us)
        )
        if samples.digest != digest:
            raise ValueError("it is not the list that the store was created with")
    except RemoteError:
        raise
    except (CacheError, OSError, KeyError, ValueError, TypeError) as error:
        raise CacheError(
            f"{path / GROUP}: the list of samples is missing or damaged ({error}); restore this "
            "directory from a copy, or extract into another --store"
        ) from error
    return samples
