"""Rows are drawn at random over samples and variants, and the report says what they find."""

import math

import numpy as np
import pytest

from stage1_extract.parity.row_sampling import (
    draw_rows,
    group_rows,
    rows_to_find,
    sampling_report,
    share_found,
)


def test_rows_are_drawn_without_repetition_over_all_variants() -> None:
    rows = draw_rows(5, 3, 100, seed=0)

    assert sorted(rows) == [(variant, sample) for variant in range(3) for sample in range(5)]
    assert draw_rows(5, 3, 7, seed=0) == rows[:7] != draw_rows(5, 3, 7, seed=1)


def test_a_fault_in_every_fourth_row_does_not_slip_through() -> None:
    drawn = draw_rows(4000, 1, 299, seed=0)

    share = np.mean([sample % 4 == 3 for _, sample in drawn])

    assert 0.2 < share < 0.3  # 250 evenly spaced rows of 4000 could all miss it


def test_groups_are_of_one_variant_and_full_ones_come_first() -> None:
    rows = [(0, 4), (1, 1), (0, 2), (1, 0), (0, 1), (0, 3), (1, 7)]

    groups = group_rows(rows, 2)

    assert groups == [(0, (4, 2)), (1, (1, 0)), (0, (1, 3)), (1, (7,))]


def test_a_huge_store_takes_as_many_rows_as_the_formula_says() -> None:
    assert rows_to_find(0.01, 10**8) == math.ceil(math.log(0.05) / math.log(0.99)) == 299
    assert rows_to_find(0.001, 10**8) == math.ceil(math.log(0.05) / math.log(0.999)) == 2995


@pytest.mark.parametrize(("share", "rows"), [(0.01, 400), (0.1, 50), (0.01, 28_130)])
def test_so_many_rows_find_it_and_a_row_less_does_not(share: float, rows: int) -> None:
    wanted = rows_to_find(share, rows)
    faulty = math.floor(share * rows)

    def missed(drawn: int) -> float:
        return math.comb(rows - faulty, drawn) / math.comb(rows, drawn)

    assert missed(wanted) <= 0.05 < missed(wanted - 1)
    assert share_found(wanted, rows) == faulty / rows


def test_a_small_store_is_compared_as_a_whole() -> None:
    assert rows_to_find(0.01, 81) == 81
    assert sampling_report(81, 81, 0) == "all 81 rows were compared"


def test_the_report_says_what_was_found_and_what_a_rarer_fault_takes() -> None:
    text = sampling_report(59, 28_130, seed=3)

    assert "59 of 28130 rows were compared (drawn with seed 3), which finds a fault in 4.9" in text
    assert f"one in 0.1% of them takes {rows_to_find(0.001, 28_130)} rows" in text
