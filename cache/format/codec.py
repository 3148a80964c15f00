"""How a row of an array becomes bytes, and which codecs a store may have: the table `CODECS`.

A store has one codec for its feature maps, chosen when it is created; everything else in it is
`zstd-1`, as maps were by default before there was `zstd-1-shuffle`. A CRC-32C is outermost in every
row, so a flipped bit is found before a decompressor sees it. `Codec.in_zarr` is the same in Zarr's
terms. Ratios, speeds and errors are in docs/store.md.
"""

import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
from numcodecs.blosc import Blosc
from numcodecs.pcodec import PCodec
from numcodecs.zstd import Zstd
from numpy.typing import NDArray
from zarr.abc.codec import ArrayBytesCodec, BytesBytesCodec
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec
from zarr.codecs import numcodecs as zarr_numcodecs

from shared.checksum import crc32c

Payload = NDArray[np.uint8]
Sealed = tuple[bytes, bytes]  # the compressed row and its checksum, not joined: a copy is saved
Buffer = NDArray[Any] | None

CHECKSUM_BYTES = 4
SEALED = 0x48674BC7  # CRC-32C of any bytes that end with the CRC-32C of those before it

# Value formats, as the identity names them: what the values of feature maps are rounded to. Codecs
# with the same value format give the same values, and so the same content digest.
FLOAT16 = "float16"
UINT8 = "uint8 per channel"

ZSTD_LEVEL = 1  # 3 is no smaller on features and encodes at half the speed
LZ4_LEVEL = 5
BLOCK_BYTES = 2**20  # that Blosc shuffles and compresses at once; its own 32 KiB suit zstd badly
PCODEC_LEVEL = 8
PCODEC_MODE = "classic"  # searching for a better mode takes a fifth longer and finds none


class DamageError(ValueError):
    """Bytes on disk that are not those written; callers add sample, array and remedy."""


def seal(payload: bytes) -> bytes:
    """Append the checksum."""
    return payload + _checksum(payload)


def _checksum(payload: bytes) -> bytes:
    return struct.pack("<I", crc32c(payload))


def unseal(sealed: bytes | Payload) -> Payload:
    """Check the checksum and return the bytes before it.

    Raises:
        DamageError: if the checksum does not match.
    """
    if len(sealed) < CHECKSUM_BYTES:
        raise DamageError("the row is truncated")
    payload = np.frombuffer(sealed, np.uint8)[:-CHECKSUM_BYTES]
    if crc32c(payload) != struct.unpack("<I", bytes(sealed[-CHECKSUM_BYTES:]))[0]:
        raise DamageError("checksum of the row does not match")
    return payload


@dataclass(frozen=True, kw_only=True, slots=True)
class ZarrCodecs:
    """The codecs in the Zarr metadata of an array.

    Args:
        serializer: turns numbers into bytes; "auto" is Zarr's own, little-endian.
        compressors: applied to these bytes, the checksum last.
    """

    serializer: ArrayBytesCodec | Literal["auto"] = "auto"
    compressors: tuple[BytesBytesCodec, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Codec:
    """A way to put a row on disk.

    Args:
        name: what `--codec` and the store's metadata call it.
        pack: turns a flat little-endian array into bytes.
        unpack: undoes it for a shape and dtype, into a buffer where possible; ValueError or
            RuntimeError if these do not fit.
        in_zarr: both, as Zarr names them, for an array whose numbers have this many bytes each.
        value_format: `FLOAT16`, or `UINT8` where maps are quantised first (`quantise`).
    """

    name: str
    pack: Callable[[NDArray[Any]], bytes]
    unpack: Callable[[Payload, tuple[int, ...], np.dtype[Any], Buffer], NDArray[Any]]
    in_zarr: Callable[[int], ZarrCodecs]
    value_format: str = FLOAT16

    def seal_row(self, values: NDArray[Any]) -> Sealed:
        """Compress and seal one row; C order, little-endian."""
        little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")).reshape(-1)
        packed = self.pack(little)
        return packed, _checksum(packed)

    def encode_row(self, values: NDArray[Any]) -> bytes:
        """Do the same; the bytes of the row and its checksum, joined."""
        return b"".join(self.seal_row(values))

    def decode_row(
        self, sealed: bytes | Payload, shape: tuple[int, ...], dtype: str
    ) -> NDArray[Any]:
        """Undo `encode_row`; see `decode`.

        Raises:
            DamageError: if the checksum fails or the content does not fit shape and dtype.
        """
        return self.decode(unseal(sealed), shape, dtype)

    def decode(
        self, payload: Payload, shape: tuple[int, ...], dtype: str, buffer: Buffer = None
    ) -> NDArray[Any]:
        """Return the values of a row; the array may be read-only.

        Args:
            payload: what `pack` returned, its checksum checked.
            shape: of the values.
            dtype: of the values, NumPy's name.
            buffer: a contiguous array of this shape and dtype to fill and return.

        Raises:
            DamageError: if the content does not fit shape and dtype.
        """
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
# On one core: parallelism comes from loader processes. Zarr switches off Blosc's threads on import.
_ZSTD_SHUFFLE = Blosc("zstd", ZSTD_LEVEL, Blosc.SHUFFLE, BLOCK_BYTES)
_LZ4_BITSHUFFLE = Blosc("lz4", LZ4_LEVEL, Blosc.BITSHUFFLE)
_SHUFFLES: dict[int, Literal["shuffle", "bitshuffle"]] = {
    Blosc.SHUFFLE: "shuffle",
    Blosc.BITSHUFFLE: "bitshuffle",
}
_PCODEC = PCodec(level=PCODEC_LEVEL, mode_spec=PCODEC_MODE)


def _empty(
    shape: tuple[int, ...], dtype: np.dtype[Any], buffer: Buffer, content_bytes: int
) -> NDArray[Any]:
    """Return memory for exactly this content: numcodecs would leave the rest of more unwritten."""
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
    """Decompress a frame, whose header contains its size (RFC 8878, section 3.1.1.1)."""
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


def _unpack_blosc(
    payload: Payload, shape: tuple[int, ...], dtype: np.dtype[Any], buffer: Buffer
) -> NDArray[Any]:
    """Decompress a Blosc buffer of any compressor, whose bytes 4 to 7 contain its size."""
    values = _empty(shape, dtype, buffer, int.from_bytes(payload[4:8].tobytes(), "little"))
    _ZSTD_SHUFFLE.decode(payload, out=values)
    return values


def _blosc_in_zarr(blosc: Blosc, itemsize: int) -> ZarrCodecs:
    codec = BloscCodec(
        typesize=itemsize,
        cname=blosc.cname,
        clevel=blosc.clevel,
        shuffle=_SHUFFLES[blosc.shuffle],
        blocksize=blosc.blocksize,
    )
    return ZarrCodecs(compressors=(codec, Crc32cCodec()))


def _blosc(name: str, blosc: Blosc) -> Codec:
    return Codec(
        name=name,
        pack=blosc.encode,
        unpack=_unpack_blosc,
        in_zarr=partial(_blosc_in_zarr, blosc),
    )


def _unpack_pcodec(
    payload: Payload, shape: tuple[int, ...], dtype: np.dtype[Any], buffer: Buffer
) -> NDArray[Any]:
    values: NDArray[Any] = _PCODEC.decode(payload)  # into a buffer, it would not say how much
    if values.dtype != dtype:
        raise ValueError(f"it holds {values.dtype}")
    return values.reshape(shape)


def _pcodec_in_zarr(itemsize: int) -> ZarrCodecs:
    with warnings.catch_warnings():  # it is in no Zarr specification, as docs/store.md says
        warnings.filterwarnings("ignore", message="Numcodecs codecs are not in the Zarr version 3")
        pcodec = zarr_numcodecs.PCodec(level=PCODEC_LEVEL, mode_spec=PCODEC_MODE)
    return ZarrCodecs(serializer=pcodec, compressors=(Crc32cCodec(),))


ZSTD = Codec(name="zstd-1", pack=_ZSTD.encode, unpack=_unpack_zstd, in_zarr=_zstd_in_zarr)
_NONE = Codec(name="none", pack=np.ndarray.tobytes, unpack=_unpack_none, in_zarr=_none_in_zarr)
_SHUFFLE = _blosc("zstd-1-shuffle", _ZSTD_SHUFFLE)
_BITSHUFFLE = _blosc("lz4-bitshuffle", _LZ4_BITSHUFFLE)
_NUMBERS = Codec(name="pcodec", pack=_PCODEC.encode, unpack=_unpack_pcodec, in_zarr=_pcodec_in_zarr)
CODECS = {
    codec.name: codec
    for codec in (
        _SHUFFLE,
        ZSTD,
        _NONE,
        _BITSHUFFLE,
        _NUMBERS,
        replace(ZSTD, name=f"uint8-{ZSTD.name}", value_format=UINT8),
        replace(_BITSHUFFLE, name=f"uint8-{_BITSHUFFLE.name}", value_format=UINT8),
    )
}
DEFAULT_CODEC = _SHUFFLE.name
