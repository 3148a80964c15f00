"""How one row of one array becomes bytes, and which codecs a store may have: the table `CODECS`.

A store has one codec for its feature maps, chosen when it is created; everything else in it is
`zstd-1`. A CRC-32C is outermost in every row, so a flipped bit is found before a decompressor sees
it. `Codec.in_zarr` says the same in Zarr's terms. Ratios, speeds and errors are in docs/store.md.
"""

import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import google_crc32c
import numpy as np
from numcodecs.blosc import Blosc
from numcodecs.pcodec import PCodec
from numcodecs.zstd import Zstd
from numpy.typing import NDArray
from zarr.abc.codec import ArrayBytesCodec, BytesBytesCodec
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec
from zarr.codecs import numcodecs as zarr_numcodecs

Payload = NDArray[np.uint8]
Buffer = NDArray[Any] | None

CHECKSUM_BYTES = 4
SEALED = 0x48674BC7  # CRC-32C of any bytes that end with the CRC-32C of those before it

# What the identity calls the number format of the maps. Codecs of one storage are lossless among
# each other: they give the same content digest.
FLOAT16 = "float16"
UINT8 = "uint8 per channel"

ZSTD_LEVEL = 1  # 3 is no smaller on features and encodes at half the speed
LZ4_LEVEL = 5
PCODEC_LEVEL = 8
PCODEC_MODE = "classic"  # looking for another mode takes a fifth longer and finds none


class DamageError(ValueError):
    """Bytes on disk that are not what was written; callers add sample, array and remedy."""


def seal(payload: bytes) -> bytes:
    """Append the checksum."""
    return payload + struct.pack("<I", google_crc32c.value(payload))


def unseal(sealed: bytes | Payload, *, what: str) -> Payload:
    """Check the checksum and return the bytes before it.

    Raises:
        DamageError: if they do not agree.
    """
    if len(sealed) < CHECKSUM_BYTES:
        raise DamageError(f"{what} is truncated")
    payload = np.frombuffer(sealed, np.uint8)[:-CHECKSUM_BYTES]
    if google_crc32c.value(payload) != struct.unpack("<I", bytes(sealed[-CHECKSUM_BYTES:]))[0]:
        raise DamageError(f"checksum of {what} does not match")
    return payload


@dataclass(frozen=True, kw_only=True, slots=True)
class ZarrCodecs:
    """What the Zarr metadata of an array names.

    Args:
        serializer: makes bytes of numbers; "auto" is Zarr's own, little-endian.
        compressors: of these bytes, the checksum last.
    """

    serializer: ArrayBytesCodec | Literal["auto"] = "auto"
    compressors: tuple[BytesBytesCodec, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Codec:
    """One way to put a row on disk.

    Args:
        name: what `--codec` and the store's metadata call it.
        pack: makes bytes of a flat little-endian array.
        unpack: undoes it for a shape and dtype, in the given buffer if it can; ValueError or
            RuntimeError if these do not fit.
        in_zarr: both, as Zarr calls them, for an array whose numbers have so many bytes each.
        storage: `FLOAT16`, or `UINT8` where maps are quantised first (`cache.format.quantise`).
    """

    name: str
    pack: Callable[[NDArray[Any]], bytes]
    unpack: Callable[[Payload, tuple[int, ...], np.dtype[Any], Buffer], NDArray[Any]]
    in_zarr: Callable[[int], ZarrCodecs]
    storage: str = FLOAT16

    def encode_row(self, values: NDArray[Any]) -> bytes:
        """Compress and seal one row; C order, little-endian."""
        little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")).reshape(-1)
        return seal(self.pack(little))

    def decode_row(
        self, sealed: bytes | Payload, shape: tuple[int, ...], dtype: str, buffer: Buffer = None
    ) -> NDArray[Any]:
        """Undo `encode_row`; the array may be read-only.

        Args:
            sealed: what `encode_row` returned.
            shape: of the values.
            dtype: of the values, NumPy's name.
            buffer: a contiguous array of them to fill and return, instead of a new one.

        Raises:
            DamageError: if the checksum fails or the content does not fit shape and dtype.
        """
        return self.decode(unseal(sealed, what="the row"), shape, dtype, buffer)

    def decode(
        self, payload: Payload, shape: tuple[int, ...], dtype: str, buffer: Buffer = None
    ) -> NDArray[Any]:
        """Do the same with bytes that `unseal` has checked."""
        try:
            values = self.unpack(payload, shape, np.dtype(dtype).newbyteorder("<"), buffer)
        except (RuntimeError, ValueError, IndexError) as error:  # IndexError: not even a header
            raise DamageError(
                f"the row does not decode as {self.name} to {shape} {dtype}: {error}"
            ) from error
        if buffer is None:
            return values.astype(dtype, copy=False)
        if values is not buffer:
            buffer[...] = values
        return buffer


_ZSTD = Zstd(level=ZSTD_LEVEL)
# On one core: loader processes are the parallelism. Zarr switches Blosc's threads off on import.
_LZ4 = Blosc(cname="lz4", clevel=LZ4_LEVEL, shuffle=Blosc.BITSHUFFLE)
_PCODEC = PCodec(level=PCODEC_LEVEL, mode_spec=PCODEC_MODE)


def _empty(
    shape: tuple[int, ...], dtype: np.dtype[Any], buffer: Buffer, content_bytes: int
) -> NDArray[Any]:
    """Return buffer for content of this size: numcodecs would leave some of more buffer unwritten."""
    values = np.empty(shape, dtype) if buffer is None or buffer.dtype != dtype else buffer
    if values.nbytes != content_bytes:
        raise ValueError(f"it holds {content_bytes} bytes, not {values.nbytes}")
    return values


def _unpack_none(
    payload: Payload, shape: tuple[int, ...], dtype: np.dtype[Any], buffer: Buffer
) -> NDArray[Any]:
    return payload.view(dtype).reshape(shape)


def _none_in_zarr(itemsize: int) -> ZarrCodecs:
    return ZarrCodecs(compressors=(Crc32cCodec(),))


def _unpack_zstd(
    payload: Payload, shape: tuple[int, ...], dtype: np.dtype[Any], buffer: Buffer
) -> NDArray[Any]:
    """Decompress one frame, whose header says its size (RFC 8878, section 3.1.1.1)."""
    descriptor = int(payload[4])
    is_single = descriptor >> 5 & 1
    start = 6 - is_single + (0, 1, 2, 4)[descriptor & 3]
    width = (is_single, 2, 4, 8)[descriptor >> 6]
    size = int.from_bytes(payload[start : start + width].tobytes(), "little")
    values = _empty(shape, dtype, buffer, size + 256 if width == 2 else size)
    _ZSTD.decode(payload, out=values)
    return values


def _zstd_in_zarr(itemsize: int) -> ZarrCodecs:
    return ZarrCodecs(compressors=(ZstdCodec(level=ZSTD_LEVEL), Crc32cCodec()))


def _unpack_lz4(
    payload: Payload, shape: tuple[int, ...], dtype: np.dtype[Any], buffer: Buffer
) -> NDArray[Any]:
    """Decompress one Blosc buffer, whose bytes 4 to 7 say its size."""
    values = _empty(shape, dtype, buffer, int.from_bytes(payload[4:8].tobytes(), "little"))
    _LZ4.decode(payload, out=values)
    return values


def _lz4_in_zarr(itemsize: int) -> ZarrCodecs:
    lz4 = BloscCodec(typesize=itemsize, cname="lz4", clevel=LZ4_LEVEL, shuffle="bitshuffle")
    return ZarrCodecs(compressors=(lz4, Crc32cCodec()))


def _unpack_pcodec(
    payload: Payload, shape: tuple[int, ...], dtype: np.dtype[Any], buffer: Buffer
) -> NDArray[Any]:
    values: NDArray[Any] = _PCODEC.decode(payload)  # into given buffer it would not say how much
    if values.dtype != dtype:
        raise ValueError(f"it holds {values.dtype}")
    return values.reshape(shape)


def _pcodec_in_zarr(itemsize: int) -> ZarrCodecs:
    with warnings.catch_warnings():  # that it is in no Zarr specification: docs/store.md says so
        warnings.filterwarnings("ignore", message="Numcodecs codecs are not in the Zarr version 3")
        pcodec = zarr_numcodecs.PCodec(level=PCODEC_LEVEL, mode_spec=PCODEC_MODE)
    return ZarrCodecs(serializer=pcodec, compressors=(Crc32cCodec(),))


ZSTD = Codec(name="zstd-1", pack=_ZSTD.encode, unpack=_unpack_zstd, in_zarr=_zstd_in_zarr)
_NONE = Codec(name="none", pack=np.ndarray.tobytes, unpack=_unpack_none, in_zarr=_none_in_zarr)
_BITSHUFFLE = Codec(
    name="lz4-bitshuffle", pack=_LZ4.encode, unpack=_unpack_lz4, in_zarr=_lz4_in_zarr
)
_NUMBERS = Codec(name="pcodec", pack=_PCODEC.encode, unpack=_unpack_pcodec, in_zarr=_pcodec_in_zarr)
CODECS = {
    one.name: one
    for one in (
        ZSTD,
        _NONE,
        _BITSHUFFLE,
        _NUMBERS,
        replace(ZSTD, name=f"uint8-{ZSTD.name}", storage=UINT8),
        replace(_BITSHUFFLE, name=f"uint8-{_BITSHUFFLE.name}", storage=UINT8),
    )
}
DEFAULT_CODEC = ZSTD.name
