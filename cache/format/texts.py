"""Many short texts as one array of bytes: a third of what Python's own strings take."""

from collections.abc import Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from shared.errors import CacheError


class Texts(Sequence[str]):
    """Texts of plain ASCII; each is made a string when asked for.

    Args:
        packed: (n, longest) their bytes, padded with zero bytes.

    Attributes:
        ascii: (n,) the same as NumPy's byte strings.
    """

    def __init__(self, packed: NDArray[np.uint8]) -> None:
        self.ascii = np.ascontiguousarray(packed).view(f"S{packed.shape[1]}").ravel()

    @classmethod
    def of(cls, texts: Sequence[str]) -> "Texts":
        """Pack strings.

        Raises:
            CacheError: if one is empty or not plain ASCII.
        """
        for text in texts:
            if not text or not text.isascii() or "\0" in text:
                raise CacheError(f"{text!r} cannot be a token: empty, or not plain ASCII")
        array = np.array([text.encode("ascii") for text in texts], dtype="S")
        return cls(array.view(np.uint8).reshape(len(texts), -1))

    @property
    def packed(self) -> NDArray[np.uint8]:
        """The bytes, as given."""
        return self.ascii.view(np.uint8).reshape(len(self), -1)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[str, ...]: ...
    def __getitem__(self, place: int | slice) -> str | tuple[str, ...]:
        if isinstance(place, slice):
            return tuple(text.decode("ascii") for text in self.ascii[place].tolist())
        text: bytes = self.ascii[place]
        return text.decode("ascii")

    def __len__(self) -> int:
        return len(self.ascii)
