"""Sensor files as failing disks, other tools and half a download leave them."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float32]
SECTOR = 512  # bytes: the smallest hole a disk leaves


@dataclass(frozen=True)
class DamagedFile:
    """A change of a good file's bytes.

    Args:
        damage: from good bytes to bad ones.
        message: regular expression that the refusal matches, after the file's name.
    """

    damage: Callable[[bytes], bytes]
    message: str


def entropy_coded(jpeg: bytes) -> int:
    """Return where the entropy-coded data of a baseline JPEG begins."""
    scan = jpeg.index(b"\xff\xda")
    return scan + 2 + int.from_bytes(jpeg[scan + 2 : scan + 4], "big")


def with_hole(data: bytes, start: int, size: int, filler: int = 0) -> bytes:
    return data[:start] + bytes([filler]) * size + data[start + size :]


def jpeg_hole(jpeg: bytes) -> bytes:
    start = entropy_coded(jpeg)
    return with_hole(jpeg, start + (len(jpeg) - start) // 3, SECTOR)


def jpeg_of_ones(jpeg: bytes) -> bytes:
    return with_hole(jpeg, (entropy_coded(jpeg) + len(jpeg)) // 2, SECTOR, 0xFF)


def jpeg_flipped(jpeg: bytes) -> bytes:
    """Flip one bit in each of 64 bytes that follow each other."""
    start = entropy_coded(jpeg) + 1000
    flipped = bytes(byte ^ 1 << index % 8 for index, byte in enumerate(jpeg[start : start + 64]))
    return jpeg[:start] + flipped + jpeg[start + 64 :]


def jpeg_closed(jpeg: bytes) -> bytes:
    """Cut at two thirds and close it with an end marker, as rescue tools do."""
    return jpeg[: 2 * len(jpeg) // 3] + b"\xff\xd9"


def jpeg_of_two(jpeg: bytes) -> bytes:
    """Leave a piece out of the middle."""
    start = entropy_coded(jpeg) + 2000
    return jpeg[:start] + jpeg[start + 4096 :]


LFS_POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 123456\n"
)
WEB_PAGE = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body></body></html>\n"

JPEGS = {
    "a hole of zeros": DamagedFile(jpeg_hole, r"damaged inside, the decoder reports: .*again"),
    "a hole of ones": DamagedFile(jpeg_of_ones, r"damaged inside, the decoder reports: .*again"),
    "flipped bits": DamagedFile(jpeg_flipped, r"damaged inside, the decoder reports: .*again"),
    "cut and closed": DamagedFile(jpeg_closed, r"damaged inside, .*premature end"),
    "a piece left out": DamagedFile(jpeg_of_two, r"damaged inside, the decoder reports: .*again"),
    "cut": DamagedFile(lambda jpeg: jpeg[: len(jpeg) // 2], r"does not begin and end as a JPEG"),
    "a Git LFS pointer": DamagedFile(
        lambda jpeg: LFS_POINTER, r"it is a Git LFS pointer.*lfs pull"
    ),
    "a web page": DamagedFile(lambda jpeg: WEB_PAGE, r"it is a web page"),
    "a gzip file": DamagedFile(gzip.compress, r"it is a gzip archive: unpack it"),
}


def of_points(change: Callable[[Points], NDArray[np.generic]]) -> Callable[[bytes], bytes]:
    """Apply a change of (P, 5) float32 points to a file's bytes; P is made divisible by 20."""

    def damage(data: bytes) -> bytes:
        points = np.frombuffer(data, "<f4").reshape(-1, 5).copy()
        return change(points[: len(points) // 20 * 20]).tobytes()

    return damage


def columns(points: Points, order: list[int]) -> Points:
    return np.ascontiguousarray(points[:, order])


def scaled(points: Points, factors: list[float]) -> Points:
    return points * np.array(factors, np.float32)


def points_hole(data: bytes, size: int = SECTOR) -> bytes:
    return with_hole(data, len(data) // 3, size)


def off_by_a_number(data: bytes) -> bytes:
    """Shift all numbers by one, as after a lost word; the size stays."""
    return data[4:] + data[:4]


def flipped_exponent(points: Points) -> Points:
    points[7, :3] *= np.float32(2.0**64)
    return points


IMPLAUSIBLE = (
    r"\d+ of \d+ points are implausible, the first is number \d+ \(.*expected rows of x, y"
)

POINT_FILES = {
    "float64": DamagedFile(
        of_points(lambda p: p.astype("<f8")), IMPLAUSIBLE + ".*5 columns of little-endian float64"
    ),
    "float64, four columns": DamagedFile(
        of_points(lambda p: p[:, :4].astype("<f8")), IMPLAUSIBLE + ".*4 columns of .*float64"
    ),
    "big-endian": DamagedFile(
        of_points(lambda p: p.astype(">f4")), IMPLAUSIBLE + ".*5 columns of big-endian float32"
    ),
    "four columns": DamagedFile(
        of_points(lambda p: columns(p, [0, 1, 2, 3])), IMPLAUSIBLE + ".*4 columns of .*float32"
    ),
    "six columns": DamagedFile(
        of_points(lambda p: columns(p, [0, 1, 2, 3, 4, 3])), IMPLAUSIBLE + ".*6 columns of"
    ),
    "ring before intensity": DamagedFile(
        of_points(lambda p: columns(p, [0, 1, 2, 4, 3])), IMPLAUSIBLE
    ),
    "time in place of the ring": DamagedFile(
        of_points(lambda p: p - np.array([0, 0, 0, 0, 0.05], np.float32)), IMPLAUSIBLE
    ),
    "millimetres": DamagedFile(of_points(lambda p: scaled(p, [1e3, 1e3, 1e3, 1, 1])), IMPLAUSIBLE),
    "intensity 0 to 1": DamagedFile(
        of_points(lambda p: scaled(p, [1, 1, 1, 1 / 255, 1])), r"intensities are fractions of 1"
    ),
    "a number lost": DamagedFile(off_by_a_number, IMPLAUSIBLE),
    "a flipped exponent": DamagedFile(of_points(flipped_exponent), "1 of " + IMPLAUSIBLE[7:]),
    "a sector of zeros": DamagedFile(points_hole, r"2\d of \d+ points are zeros throughout"),
    "half of it zeros": DamagedFile(
        lambda data: points_hole(data, len(data) // 2), r"points are zeros throughout"
    ),
    "a sector of ones": DamagedFile(
        lambda data: with_hole(data, len(data) // 3, SECTOR, 0xFF), IMPLAUSIBLE
    ),
    "cut": DamagedFile(lambda data: data[:-7], r"not a positive multiple of 20 .*truncated"),
    "empty": DamagedFile(lambda data: b"", r"has 0 bytes"),
    "a Git LFS pointer": DamagedFile(lambda data: LFS_POINTER, r"it is a Git LFS pointer"),
    "a gzip file": DamagedFile(gzip.compress, r"it is a gzip archive"),
}
