"""Which samples a store holds: tokens, scenes and times, fixed when it is created.

Three Zarr arrays of one chunk each, read once when a store is opened. Text lies as ASCII bytes of
fixed length, padded with zero bytes, because Zarr v3 has no settled string type.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from cache.bucket import RemoteError
from cache.codec import ZSTD
from cache.storage import StorePath, read_array
from shared.digests import json_digest
from shared.errors import CacheError

GROUP = "samples"


@dataclass(frozen=True, kw_only=True, slots=True)
class Samples:
    """The samples of a store, in its order.

    Args:
        tokens: nuScenes sample tokens, each once.
        scenes: scene token of each.
        timestamps_us: time of the LiDAR keyframe of each, microseconds.
    """

    tokens: tuple[str, ...]
    scenes: tuple[str, ...]
    timestamps_us: tuple[int, ...]

    def __post_init__(self) -> None:
        if not len(self.tokens) == len(self.scenes) == len(self.timestamps_us):
            raise CacheError(
                f"{len(self.tokens)} tokens, {len(self.scenes)} scenes and "
                f"{len(self.timestamps_us)} timestamps do not belong together"
            )
        if not self.tokens:
            raise CacheError("there are no samples to store; check the split and the data root")
        if len(set(self.tokens)) < len(self.tokens):
            twice = next(token for token in self.tokens if self.tokens.count(token) > 1)
            raise CacheError(f"sample {twice} is listed twice; a store holds each sample once")

    @property
    def digest(self) -> str:
        """Digest of the whole list, in its order."""
        return json_digest([self.tokens, self.scenes, self.timestamps_us])


def _pack(texts: Sequence[str]) -> NDArray[np.uint8]:
    """Return texts as (n, longest) ASCII bytes."""
    for text in texts:
        if not text or not text.isascii() or "\0" in text:
            raise CacheError(f"{text!r} cannot be a token: empty, or not plain ASCII")
    packed = np.array([text.encode("ascii") for text in texts], dtype="S")
    return packed.view(np.uint8).reshape(len(texts), -1)


def _unpack(packed: NDArray[np.uint8]) -> tuple[str, ...]:
    """Undo `_pack`."""
    width = packed.shape[1]
    texts = np.ascontiguousarray(packed).view(f"S{width}").ravel()
    return tuple(text.decode("ascii") for text in texts.tolist())


def write_samples(root: zarr.Group, samples: Samples) -> None:
    """Create the three arrays in a new store."""
    columns: dict[str, tuple[NDArray[Any], tuple[str, ...]]] = {
        "token": (_pack(samples.tokens), ("sample", "byte")),
        "scene": (_pack(samples.scenes), ("sample", "byte")),
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
            tokens=_unpack(tokens),
            scenes=_unpack(scenes),
            timestamps_us=tuple(timestamps_us.tolist()),
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
