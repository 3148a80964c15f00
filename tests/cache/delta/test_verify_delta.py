"""`feature-cache verify` and `show` of a delta: whatever is lost or does not belong is named."""

import shutil
from pathlib import Path

import pytest

from cache.__main__ import main
from cache.delta.open_features import open_delta
from cache.reader import CachedFeatures
from shared.config.classes import CAMERAS, LIDAR
from shared.errors import CacheError
from tests.cache.delta.small_deltas import COMMAND, plan_of, write_small_delta

LETTERS = {CAMERAS[0]: "rr...", LIDAR: "r...."}


@pytest.fixture
def delta(base: CachedFeatures, tmp_path: Path) -> Path:
    write_small_delta(tmp_path / "delta", base, plan_of(base, LETTERS))
    return tmp_path / "delta"


def printed_by(capsys: pytest.CaptureFixture[str], *words: str | Path, status: int) -> str:
    """Run `feature-cache` and return what it prints and says."""
    assert main([str(word) for word in words]) == status
    output = capsys.readouterr()
    return output.out + output.err


def test_a_store_inside_without_its_metadata_is_damage(
    delta: Path, base: CachedFeatures, capsys: pytest.CaptureFixture[str]
) -> None:
    (delta / "camera/zarr.json").unlink()
    printed = printed_by(capsys, "verify", delta, status=1)
    lost = f"{delta}/camera/zarr.json is lost; restore this file from a copy. Or move the folder"
    assert f"camera rows of {delta}: {lost} {delta}/camera away and run this" in printed
    assert "1 of 1 rows are complete and were read again: all as written" in printed  # LiDAR
    assert lost in printed_by(capsys, "show", delta, status=1)
    with pytest.raises(CacheError, match=r"camera/zarr\.json is lost"):
        open_delta(delta, base)
    with pytest.raises(CacheError, match=r"camera/zarr\.json is lost"):
        write_small_delta(delta, base, plan_of(base, LETTERS))


def test_a_store_inside_that_is_not_there_is_unfinished(
    delta: Path, base: CachedFeatures, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(delta / "camera")
    shutil.rmtree(delta / "lidar")
    printed = printed_by(capsys, "verify", delta, status=0)
    assert f"{delta}/camera: its rows are missing. Finish the delta with: " in printed
    assert f"{delta}/lidar: its rows are missing" in printed
    write_small_delta(delta, base, plan_of(base, LETTERS))
    assert "missing" not in printed_by(capsys, "verify", delta, status=0)


def test_a_delta_without_rows_says_so(
    base: CachedFeatures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_small_delta(tmp_path / "dark", base, plan_of(base, {CAMERAS[0]: "aaaaa"}))
    assert "dark has no rows of its own\n" in printed_by(
        capsys, "verify", tmp_path / "dark", status=0
    )


def test_rows_of_another_delta_are_damage(
    delta: Path, base: CachedFeatures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # As when an unfinished delta is copied over a finished one.
    condition = {"name": "shaken-3", "family": "shaken", "parameters": {"share": 0.7}}
    plan = plan_of(base, LETTERS)
    other = tmp_path / "shaken-3"
    write_small_delta(other, base, plan, name="shaken-3", condition_identity=condition)
    shutil.copy(other / "lidar/ledger/000000.json", delta / "lidar/ledger/000000.json")
    printed = printed_by(capsys, "verify", delta, "--repair", status=1)
    assert "lidar/ledger/000000.json is of a different store" in printed
    assert "moved aside: ledger/000000.json" in printed
    write_small_delta(delta, base, plan)
    printed_by(capsys, "verify", delta, status=0)
    assert COMMAND in printed
