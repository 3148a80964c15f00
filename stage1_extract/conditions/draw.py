"""Random numbers of a condition: the same in any order and any process.

On another machine uniform numbers and bits are the same, too; normal ones up to their last bits.
"""

import hashlib
import json
import math

import numpy as np
from numpy.typing import NDArray


class Draw:
    """Numbers for a subject and sensor, the first of PCG64 seeded with a SHA-256.

    Conditions of a family draw the same numbers, so a severe one loses what a mild one loses.

    Args:
        seed: of the condition.
        family: of the condition.
        subject: sample token, or a LiDAR file below the dataset root.
        sensor: `shared.config.classes.LIDAR` or a camera's name.
    """

    def __init__(self, seed: int, family: str, subject: str, sensor: str) -> None:
        key = json.dumps([seed, family, subject, sensor]).encode()
        entropy = int.from_bytes(hashlib.sha256(key).digest(), "big")
        self._generator = np.random.Generator(np.random.PCG64(entropy))

    def uniform(self, *shape: int) -> NDArray[np.float64]:
        """Return the next numbers in [0, 1)."""
        return self._generator.random(shape)

    def normal(self, *shape: int) -> NDArray[np.float64]:
        """Return the next numbers of mean 0 and deviation 1.

        Made of uniform numbers (Box and Muller): NumPy may change how it draws normal ones. Its
        logarithm and cosine are made for each kind of processor: with and without AVX512 numbers
        differ by up to 9e-16.
        """
        radius, turn = self.uniform(2, *shape)
        normal: NDArray[np.float64] = np.sqrt(-2 * np.log1p(-radius)) * np.cos(2 * np.pi * turn)
        return normal

    def bits16(self, *shape: int) -> NDArray[np.uint16]:
        """Return the next whole numbers from 0 to 65535, a quarter of the cost of `uniform`."""
        size = math.prod(shape)
        words = self._generator.bit_generator.random_raw(-(-size // 4))
        bits: NDArray[np.uint16] = words.astype("<u8").view("<u2")[:size].reshape(shape)
        return bits

    def chance(self, probability: float) -> bool:
        """Return whether the next uniform number is below a probability."""
        return bool(self._generator.random() < probability)
