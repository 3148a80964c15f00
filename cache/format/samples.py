"""Which samples a store holds: tokens, scenes and times, fixed when it is created.

Three Zarr arrays of one chunk each, read once when a store is opened. Text is stored as ASCII bytes
of fixed length, padded with zero bytes, because Zarr v3 has no settled string type.
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
from cache.storage.protocol import StorePath
from shared.errors import CacheError

SAMPLES_GROUP = "samples"
DIGESTED_AT_ONCE = 1024  # samples


class Samples:
    """The samples of a store, in its order, in little memory: a store may have a million.

    Args:
        tokens: nuScenes sample tokens, each once.
        scenes: scene token of each sample.
        timestamps_us: time of each LiDAR keyframe, microseconds.

    Raises:
        CacheError: if these differ in length, or there is no sample, or a token occurs twice.
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
        self.timestamps_us = array("q", timestamps_us)  # a fifth of the memory of Python's ints
        self._by_token = np.argsort(self.tokens.ascii)
        in_order = self.tokens.ascii[self._by_token]
        repeated = in_order[1:][in_order[1:] == in_order[:-1]]
        if len(repeated):
            token = repeated[0].decode()
            raise CacheError(f"sample {token} is listed twice; a store holds each sample once")

    def position(self, token: str) -> int | None:
        """Return the position of a token in the list, or None if it is not there."""
        wanted = np.bytes_(token.encode("ascii", "replace"))
        rank = int(np.searchsorted(self.tokens.ascii, wanted, sorter=self._by_token))
        position = int(self._by_token[min(rank, len(self.tokens) - 1)])
        return position if self.tokens[position] == token else None

    @property
    def digest(self) -> str:
        """Digest of the whole list, in its order: `json_digest` of the columns, chunk by chunk."""
        digest = hashlib.sha256()
        before = "[["
        for column in (self.tokens, self.scenes, self.timestamps_us):
            for start in range(0, len(column), DIGESTED_AT_ONCE):
                chunk = list(column[start : start + DIGESTED_AT_ONCE])
                text = json.dumps(chunk, separators=(",", ":"))
                digest.update(f"{before}{text[1:-1]}".encode())
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
            f"{SAMPLES_GROUP}/{name}",
            data=values,
            chunks=values.shape,
            compressors=ZSTD.in_zarr(values.itemsize).compressors,
            dimension_names=dims,
        )


def read_samples(path: StorePath, digest: str) -> Samples:
    """Read the sample list of the store at `path`.

    Args:
        path: the store.
        digest: as the root group recorded it; Zarr returns zeros for a missing chunk.

    Raises:
        CacheError: if the list is missing or damaged.
    """
    try:
        tokens, scenes, timestamps_us = (
            (path / SAMPLES_GROUP / name).read_array()
            for name in ("token", "scene", "timestamp_us")
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
            f"{path / SAMPLES_GROUP}: the list of samples is missing or damaged ({error}); restore "
            "this directory from a copy, or extract into a different --store"
        ) from error
    return samples
