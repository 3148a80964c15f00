"""`feature-cache verify` and `show` of a delta: whatever is lost or does not belong is named."""

import shutil
from pathlib import Path

import pytest

from cache.__main__ import main
from cache.coordination.store import open_store
from cache.delta.open_features import open_delta
from cache.reader import CachedFeatures
from shared.config.classes import CAMERAS, LIDAR
from shared.errors import CacheError
from tests.cache.conftest import command_of
from tests.cache.delta.conftest import write_base
from tests.cache.delta.small_deltas import plan_of, write_small_delta

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
    different = tmp_path / "shaken-3"
    write_small_delta(different, base, plan, name="shaken-3", condition_identity=condition)
    shutil.copy(different / "lidar/ledger/000000.json", delta / "lidar/ledger/000000.json")
    printed = printed_by(capsys, "verify", delta, "--repair", status=1)
    assert "lidar/ledger/000000.json is of a different store" in printed
    assert "moved aside: ledger/000000.json" in printed
    write_small_delta(delta, base, plan)
    printed_by(capsys, "verify", delta, status=0)
    assert f"--base HERE --store {delta}" in printed


def test_a_store_of_another_delta_is_refused_and_damage(
    delta: Path, base: CachedFeatures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    condition = {"name": "shaken-3", "family": "shaken", "parameters": {"share": 0.7}}
    different, plan = tmp_path / "shaken-3", plan_of(base, LETTERS)
    write_small_delta(different, base, plan, name="shaken-3", condition_identity=condition)
    shutil.rmtree(delta / "lidar")
    shutil.copytree(different / "lidar", delta / "lidar")
    with pytest.raises(CacheError, match=r"/lidar belongs to something else(.|\n)*shaken-3"):
        open_delta(delta, base)
    printed = printed_by(capsys, "verify", delta, status=1)
    assert "condition.name: shaken-3 there, shaken-2 in what it is inside of" in printed
    assert f"Or move the folder {delta}/lidar away and run this" in printed
    assert "2 of 2 rows are complete" in printed  # cameras


def test_null_features_of_another_store_are_refused_and_damage(
    base: CachedFeatures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_base(tmp_path / "coarse.zarr", codec="uint8-zstd-1")
    null = tmp_path / "base.zarr/null"
    shutil.rmtree(null)
    shutil.copytree(tmp_path / "coarse.zarr/null", null)
    with pytest.raises(CacheError, match=r"/null belongs to something else(.|\n)*value_format"):
        _ = base.null
    printed = printed_by(capsys, "verify", base.path, status=1)
    assert f"null features: {null} belongs to something else" in printed
    assert "5 of 5 rows are complete" in printed


def test_what_is_inside_is_finished_with_what_is_around_it(
    base: CachedFeatures, delta: Path, tmp_path: Path
) -> None:
    null = open_store(base.path / "null")
    assert null.command == command_of(base.path)
    assert f"the extraction again: {command_of(base.path)}" in null.repair(0)
    moved = delta.rename(tmp_path / "moved")
    assert open_store(moved / "lidar").command.endswith(f"--base HERE --store {moved}")
