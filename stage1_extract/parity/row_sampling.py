"""Which rows of a store are compared, and what so many rows can be expected to find.

Rows are drawn at random, without repetition, over all variants and samples: a fault that repeats,
say in the last row of every batch, slips through rows chosen at even distances. The seed is part of
the report, so a comparison can be repeated, and another seed draws other rows.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

CONFIDENCE = 0.95
DEFAULT_SHARE = 0.01  # `check-parity` finds by default a fault that sits in so many of the rows
SMALL_SHARE = 0.001  # and says how many rows would find one that sits in so few

StoredRow = tuple[int, int]  # variant, position of the sample in the store


def draw_rows(samples: int, variants: int, count: int, seed: int) -> list[StoredRow]:
    """Draw rows at random, without repetition and in random order; all if there are fewer.

    Args:
        samples: of the store.
        variants: of the store.
        count: how many rows.
        seed: equal seeds draw equal rows.
    """
    order = np.random.default_rng(seed).permutation(samples * variants)
    return [(int(row) // samples, int(row) % samples) for row in order[:count]]


def group_rows(rows: Sequence[StoredRow], size: int) -> list[tuple[int, tuple[int, ...]]]:
    """Divide rows into groups of one variant: those of `size` rows first, then what is left.

    Returns:
        Variant and positions of every group.
    """
    open_groups: dict[int, list[int]] = {}
    groups = []
    for variant, position in rows:
        group = open_groups.setdefault(variant, [])
        group.append(position)
        if len(group) == size:
            groups.append((variant, tuple(open_groups.pop(variant))))
    return groups + [(variant, tuple(group)) for variant, group in open_groups.items()]


def rows_to_find(share: float, rows: int) -> int:
    """Return how many drawn rows find, with 95% probability, a fault in a share of all rows.

    Found means that at least one faulty row is drawn (hypergeometric). All rows, where the share is
    a single row or less.
    """
    faulty = math.floor(share * rows)
    if faulty <= 1:
        return rows
    return 1 + bisect_left(range(1, rows), CONFIDENCE, key=lambda n: _chance(faulty, rows, n))


def share_found(drawn: int, rows: int) -> float:
    """Return the smallest share of faulty rows that so many rows find with 95% probability."""
    faulty = 1 + bisect_left(range(1, rows), CONFIDENCE, key=lambda n: _chance(n, rows, drawn))
    return faulty / rows


def sampling_report(drawn: int, rows: int, seed: int) -> str:
    """Say what a comparison of so many rows finds, and how many a rarer fault takes."""
    if drawn >= rows:
        return f"all {rows} rows were compared"
    wanted = rows_to_find(SMALL_SHARE, rows)
    return (
        f"{drawn} of {rows} rows were compared (drawn with seed {seed}), which finds a fault in "
        f"{_percent(share_found(drawn, rows))} of the rows with {CONFIDENCE:.0%} probability; one "
        f"in {_percent(SMALL_SHARE)} of them takes {'all' if wanted == rows else wanted} rows "
        f"(--samples {wanted})"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"


def _chance(faulty: int, rows: int, drawn: int) -> float:
    """Return the probability that at least one of the faulty rows is drawn."""
    if drawn + faulty > rows:
        return 1.0
    # None is drawn: C(rows - faulty, drawn) / C(rows, drawn), by logarithms of factorials.
    log_missed = (
        math.lgamma(rows - faulty + 1)
        - math.lgamma(rows - faulty - drawn + 1)
        - math.lgamma(rows + 1)
        + math.lgamma(rows - drawn + 1)
    )
    return 1.0 - math.exp(log_missed)
