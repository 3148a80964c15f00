"""The worst of every difference is kept, a NaN for good, and compared with what noise allows."""

import math

from stage1_extract.parity.parity_report import ParityReport, rows_as_text, worst_margins
from stage1_extract.parity.parity_tolerances import DIFFERING, MEAN, OUTPUT, Difference


def outputs(value: float) -> list[Difference]:
    return [Difference(quantity="output a", measure=OUTPUT, value=value)]


def test_the_worst_of_each_batch_size_counts() -> None:
    report = ParityReport()
    for size, value in ((1, 0.25), (1, 0.5), (2, 0.125)):
        report.add(size, outputs(value))

    assert [(row.batch_size, row.difference) for row in report.rows()] == [(1, 0.5), (2, 0.125)]


def test_a_nan_stays_whatever_follows_and_does_not_pass() -> None:
    report = ParityReport()
    for value in (0.25, math.nan, 0.5):
        report.add(1, outputs(value))
    report.add_noise(1, outputs(1.0))

    (row,) = report.rows()

    assert math.isnan(row.difference)
    assert not row.passed
    assert worst_margins([row]) == {"output a": None}
    assert "<-- outside" in rows_as_text([row])


def test_noise_that_is_not_a_number_allows_nothing() -> None:
    report = ParityReport()
    report.add(1, outputs(0.0))
    for value in (math.nan, 1.0):
        report.add_noise(1, outputs(value))

    assert not report.rows()[0].passed


def test_the_tolerance_is_a_factor_of_the_noise_of_any_batch_size_or_the_floor() -> None:
    report = ParityReport()
    report.add(1, outputs(0.0))
    assert report.rows()[0].allowed == OUTPUT.floor

    report.add_noise(2, outputs(0.25))

    assert report.rows()[0].allowed == OUTPUT.factor * 0.25


def test_bits_may_differ_only_where_equality_is_not_asked() -> None:
    report = ParityReport(exact_at=(4,))
    for size in (1, 4):
        report.add(size, [Difference(quantity="map", measure=DIFFERING, value=1e-6)])

    assert [(row.batch_size, row.passed) for row in report.rows()] == [(1, True), (4, False)]


def test_a_live_side_far_from_itself_fails() -> None:
    report = ParityReport()
    report.add(1, [Difference(quantity="map, mean", measure=MEAN, value=2.5)])
    report.add_noise(1, [Difference(quantity="map, mean", measure=MEAN, value=2.5)])

    failed = [row.quantity for row in report.rows() if not row.passed]

    assert failed == ["map, mean, live against live"]
