"""The fidelity benchmark counts correctly, and what it calls equal is equal."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.validation.fidelity.rows import Gap, RealFrame, counted, gap_of, markdown


def test_a_gap_accumulates_the_largest_mean_and_number_of_differences() -> None:
    gap = Gap()
    gap.add([1.0, 2.0, 3.0], [1.0, 2.5, 3.0])
    gap.add([[4.0]], [[2.5]])
    row = gap.row("step", "ours", "theirs", "what", "why")
    assert (row.largest, row.mean, row.count, row.of) == (1.5, 0.5, 2, 4)


def test_nan_differs_from_a_number_but_not_from_nan() -> None:
    assert gap_of([np.nan, 1.0], [np.nan, 1.0]).largest == 0
    one_sided = gap_of([np.nan, 1.0], [0.0, 1.0])
    one_sided.add([1.0], [1.0])
    assert np.isnan(one_sided.largest)
    assert one_sided.differing == 1


def test_empty_arrays_do_not_differ() -> None:
    row = gap_of(np.zeros((0, 9)), np.zeros((0, 9))).row("step", "ours", "theirs", "what")
    assert (row.largest, row.mean, row.count, row.of) == (0, 0, 0, 0)
    assert "| 0 | 0 of 0 |" in markdown([row])


def test_arrays_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"ours is \(2,\), theirs is \(3,\)"):
        gap_of([1.0, 2.0], [1.0, 2.0, 3.0])


def test_the_table_prints_small_counts_as_numbers_and_large_ones_as_shares() -> None:
    few_differ = counted("voxels", "ours", "theirs", "points", 15, 138_880, "")
    half_differ = gap_of(np.zeros(20_000), np.arange(20_000) % 2).row(
        "resize", "ours", "theirs", "what"
    )
    table = markdown([few_differ, half_differ]).splitlines()
    assert table[2] == "| voxels | ours | theirs | points |  | 15 of 138,880 |  |"
    assert table[3] == "| resize | ours | theirs | what | 1 | 0.5; 50% of 20,000 |  |"


def test_the_versions_are_those_of_whichever_mmcv_is_installed() -> None:
    from benchmarks.validation.fidelity.__main__ import library_versions

    versions = library_versions()
    assert len({"mmcv", "mmcv-lite"} & set(versions)) == 1
    assert versions["mmdet3d"] == "1.4.0"
    assert versions["libjpeg-turbo of Pillow"][0].isdigit()


@pytest.fixture(scope="module")
def frames(nuscenes_real: Path) -> list[RealFrame]:
    from benchmarks.validation.fidelity.rows import real_frames

    return real_frames(nuscenes_real)


@pytest.mark.real
def test_points_and_boxes_equal_those_of_mmdet3d(frames: list[RealFrame]) -> None:
    from benchmarks.validation.fidelity import boxes, points

    rows = [*points.reading(frames), *boxes.filtering(frames)]
    assert [row.largest for row in rows] == [0, 0, 0, None]


@pytest.mark.real
def test_only_the_translation_of_mmdet3ds_sweeps_is_wrong(frames: list[RealFrame]) -> None:
    from benchmarks.validation.fidelity import points

    rows = list(points.merging_sweeps(frames))
    as_is, repaired = (
        [row.largest for row in rows if row.remark.startswith(remark)]
        for remark in ("adds R^T t", "t is its only fault")
    )
    assert len(as_is) == len(repaired) == 2
    one_step_m = 2.0**-16  # of float32 beyond 128 m, in one coordinate
    assert max(repaired) < one_step_m < 1e-3 <= min(as_is)


@pytest.mark.real
def test_the_projection_ignores_the_half_pixel_of_a_resize(frames: list[RealFrame]) -> None:
    from benchmarks.validation.fidelity import geometry

    whole, half, *_ = (row.largest for row in geometry.resampling(frames))
    assert whole == 0
    assert half == pytest.approx(0.25)
