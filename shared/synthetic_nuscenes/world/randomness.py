"""Tokens and random streams that follow from the seed and a key, never from the order of work.

A stream per key (not one stream passed along) lets any process draw any part alone.
NumPy's generator, not torch's: a worker process that never imports torch starts much faster.
"""

import hashlib

import numpy as np


def token(seed: int, *key: str | int) -> str:
    """Name something as nuScenes does: 32 hexadecimal digits."""
    return hashlib.md5(_text(seed, key), usedforsecurity=False).hexdigest()


def stream(seed: int, *key: str | int) -> np.random.Generator:
    """Open the random stream that belongs to a key."""
    digest = hashlib.sha256(_text(seed, key)).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))


def _text(seed: int, key: tuple[str | int, ...]) -> bytes:
    return "/".join(str(part) for part in (seed, *key)).encode()
