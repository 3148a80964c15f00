"""The table of tile sizes: what a reader takes from it."""

import pytest

pytest.importorskip("triton")

from benchmarks.speed.tile_sizes import table


def row(ms: float | None, *, queries: int) -> dict[str, object]:
    size = {"kernel": "forward", "queries": queries, "tokens": 64, "warps": 4, "stages": 2}
    return size | {"ms": ms, "reason": "OutOfResources: shared memory"}


def test_the_fastest_tile_comes_first_and_a_tile_that_failed_last_with_its_reason() -> None:
    lines = table([row(None, queries=128), row(2.5, queries=32), row(1.5, queries=64)])
    assert lines.splitlines()[2:] == [
        "| forward | 64 x 64 | 4 | 2 | 1.500 |",
        "| forward | 32 x 64 | 4 | 2 | 2.500 |",
        "| forward | 128 x 64 | 4 | 2 | OutOfResources: shared memory |",
    ]
