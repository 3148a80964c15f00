"""A shared sequence has the items it was made of, in every process."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest

from shared.process.memory.shared_sequence import SharedSequence

ITEMS = ["", "one", ("two", 2), {"three": [3]}]
_RECEIVED: list[SharedSequence[object]] = []


def receive(items: SharedSequence[object]) -> None:
    _RECEIVED[:] = [items]


def received(index: int) -> object:
    return _RECEIVED[0][index]


def test_it_is_a_sequence_of_equal_items() -> None:
    shared = SharedSequence(ITEMS)
    assert len(shared) == 4
    assert list(shared) == ITEMS
    assert shared[-1] == ITEMS[-1]
    assert shared[1:3] == ITEMS[1:3]
    with pytest.raises(IndexError):
        shared[4]
    assert list(SharedSequence([])) == []
    shared.close_file()
    assert shared[2] == ITEMS[2]  # the memory lives as long as somebody uses it


def test_another_process_has_the_same() -> None:
    shared = SharedSequence(ITEMS)
    with ProcessPoolExecutor(
        1, multiprocessing.get_context("spawn"), initializer=receive, initargs=(shared,)
    ) as pool:
        assert list(pool.map(received, range(4))) == ITEMS
    shared.close_file()
