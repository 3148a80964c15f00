"""How one row of one array becomes bytes: zstd level 1, then a CRC-32C of the result.

Lossless; 1.3 to 2.3 times smaller on backbone features. The checksum is outermost, so a flipped bit
is found before the decompressor sees it. `array_codecs` says the same in Zarr's terms.
"""

import struct
from typing import Any

import google_crc32c
import numpy as np
from numcodecs.zstd import Zstd
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec, ZstdCodec

CODEC_NAME = "zstd-1, crc32c"
ZSTD_LEVEL = 1
CHECKSUM_BYTES = 4

_zstd = Zstd(level=ZSTD_LEVEL)


class DamageError(ValueError):
    """Bytes on disk that are not what was written; callers add sample, array and remedy."""


def array_codecs() -> tuple[ZstdCodec, Crc32cCodec]:
    """Return the codecs to name in an array's Zarr metadata."""
    return ZstdCodec(level=ZSTD_LEVEL), Crc32cCodec()


def seal(payload: bytes) -> bytes:
    """Append the checksum."""
    return payload + struct.pack("<I", google_crc32c.value(payload))


def unseal(sealed: bytes, *, what: str) -> NDArray[np.uint8]:
    """Check the checksum and return the bytes before it.

    Raises:
        DamageError: if they do not agree.
    """
    if len(sealed) < CHECKSUM_BYTES:
        raise DamageError(f"{what} is truncated")
    payload = np.frombuffer(sealed, np.uint8)[:-CHECKSUM_BYTES]
    if google_crc32c.value(payload) != struct.unpack("<I", sealed[-CHECKSUM_BYTES:])[0]:
        raise DamageError(f"checksum of {what} does not match")
    return payload


def encode_row(values: NDArray[Any]) -> bytes:
    """Compress and seal one row; C order, little-endian."""
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    return seal(bytes(_zstd.encode(little.reshape(-1))))


def decode_row(sealed: bytes, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Undo `encode_row`.

    Raises:
        DamageError: if the checksum fails or the content does not fit shape and dtype.
    """
    payload = unseal(sealed, what="the row")
    values = np.empty(shape, np.dtype(dtype).newbyteorder("<"))
    try:
        _zstd.decode(payload, out=values)
    except (RuntimeError, ValueError) as error:
        raise DamageError(f"the row does not decompress to {shape} {dtype}: {error}") from error
    return values.astype(dtype, copy=False)
