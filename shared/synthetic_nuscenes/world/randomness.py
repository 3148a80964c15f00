"""Tokens and random streams that depend on the seed and a key, never on the order of work.

Each key has its own stream, so that any process can draw any piece of the data set by itself.
NumPy's generator, not torch's: a worker process that never imports torch starts much faster.
"""

import hashlib

import numpy as np


def token(seed: int, *key: str | int) -> str:
    """Return a token as in nuScenes: 32 hexadecimal digits."""
    return hashlib.md5(_text(seed, key), usedforsecurity=False).hexdigest()


def stream(seed: int, *key: str | int) -> np.random.Generator:
    """Open the random stream that belongs to a key."""
    digest = hashlib.sha256(_text(seed, key)).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))


def _text(seed: int, key: tuple[str | int, ...]) -> bytes:
    return "/".join(str(piece) for piece in (seed, *key)).encode()
