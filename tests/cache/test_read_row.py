"""A row read and checked piece by piece is the row read and checked at once."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from cache.format.codec import DamageError, seal, unseal
from cache.format.shard_file import read_row, write_shard_file
from cache.storage.directory import DirectoryPath

PIECE_BYTES = 5
CONTENTS = [bytes(range(length)) for length in range(17)]  # up to four pieces with the checksum


@pytest.fixture
def shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DirectoryPath:
    monkeypatch.setattr("cache.storage.directory.PIECE_BYTES", PIECE_BYTES)
    path = DirectoryPath(tmp_path) / "shard"
    write_shard_file(path, ([seal(row)] for row in CONTENTS), len(CONTENTS))
    return path


@pytest.mark.parametrize("is_passing", [False, True])
def test_every_row_is_what_unsealing_it_returns(shard: DirectoryPath, is_passing: bool) -> None:
    for slot, content in enumerate(CONTENTS):
        row = read_row(shard, slot, len(CONTENTS), is_passing=is_passing)
        np.testing.assert_array_equal(row, unseal(seal(content)))


def test_every_flipped_bit_is_found_in_whatever_piece(shard: DirectoryPath) -> None:
    whole = shard.read_bytes()
    rows_end = sum(len(seal(content)) for content in CONTENTS)
    start = rows_end - len(seal(CONTENTS[-1]))
    for bit in range(8 * start, 8 * rows_end):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        shard.write_bytes(damaged)
        with pytest.raises(DamageError, match="checksum of the row does not match"):
            read_row(shard, len(CONTENTS) - 1, len(CONTENTS))


def test_a_system_that_reads_less_than_asked_for_is_asked_again(
    shard: DirectoryPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    preadv = os.preadv

    def little(descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        return preadv(descriptor, [buffers[0][:2]], offset)

    monkeypatch.setattr(os, "preadv", little)
    row = read_row(shard, len(CONTENTS) - 1, len(CONTENTS))
    assert row.tobytes() == CONTENTS[-1]


def test_a_file_that_shrinks_while_it_is_read_is_damage(
    shard: DirectoryPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    preadv = os.preadv

    def last(descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        count = preadv(descriptor, buffers, offset)
        os.truncate(shard, offset + count)
        return count

    monkeypatch.setattr(os, "preadv", last)
    with pytest.raises(DamageError, match="the row is truncated"):
        read_row(shard, len(CONTENTS) - 1, len(CONTENTS))
