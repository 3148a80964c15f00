"""Deltas end in the same bits whatever happens on the way, and other commands know them."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cache.__main__ import main as feature_cache
from cache.coordination.store import open_store
from cache.delta.delta_inspection import delta_content
from cache.delta.open_features import open_delta
from cache.reader import CachedFeatures
from cache.storage.location import as_store_path
from stage1_extract.__main__ import main as extract_features
from stage1_extract.check_parity import main as check_parity
from tests.stage1_extract.extraction.delta.conftest import OWN, delta_options

Extract = Callable[[Path, str], Path]
Output = pytest.CaptureFixture[str]


def digest(delta: Path) -> str:
    return delta_content(as_store_path(delta)).digest(recompute=True)


def test_slices_and_orders_end_in_the_same_bits(
    synthetic_root: Path, tiny_store: Path, extracted: Extract, tmp_path: Path
) -> None:
    store = tmp_path / "sliced"
    command = delta_options(synthetic_root, tiny_store, store, "mixed")
    for slice_ in ("2/3", "1/3"):  # the first worker does its slice, then helps with the rest
        assert extract_features([*command, "--shard-mib", "1", "--slice", slice_]) == 0
    assert digest(store) == digest(extracted(tiny_store, "mixed"))


def test_a_process_loads_the_same(
    synthetic_root: Path, tiny_store: Path, extracted: Extract, tmp_path: Path
) -> None:
    store = tmp_path / "delta"
    command = delta_options(synthetic_root, tiny_store, store, "mixed")
    assert extract_features([*command, "--workers", "1"]) == 0
    assert digest(store) == digest(extracted(tiny_store, "mixed"))


def test_damage_is_repaired_by_the_same_command(
    synthetic_root: Path, tiny_store: Path, extracted: Extract, tmp_path: Path, capsys: Output
) -> None:
    store = shutil.copytree(extracted(tiny_store, "beams-4-even"), tmp_path / "delta")
    (file,) = (store / "lidar/lidar/stride8").glob("c.*")
    content = bytearray(file.read_bytes())
    content[20] ^= 4
    file.write_bytes(content)
    assert feature_cache(["verify", str(store), "--repair"]) == 1
    assert "moved aside: ledger/000000.json" in capsys.readouterr().out
    with pytest.raises(Exception, match="is not finished"):
        open_delta(store, CachedFeatures(tiny_store))
    command = delta_options(synthetic_root, tiny_store, store, "beams-4-even")
    assert extract_features(command) == 0
    assert digest(store) == digest(extracted(tiny_store, "beams-4-even"))


def test_feature_cache_knows_deltas(
    synthetic_root: Path, tiny_store: Path, extracted: Extract, capsys: Output
) -> None:
    delta, different = (extracted(tiny_store, name) for name in ("mixed", "beams-4-even"))
    assert feature_cache(["show", str(delta)]) == 0
    shown = capsys.readouterr().out
    assert "condition   mixed (family mixed)" in shown
    assert "LIDAR_TOP              of 3 samples: 1 rows of the delta, 1 absent, 1 stuck" in shown
    assert "camera/                4 of 4 rows" in shown
    assert feature_cache(["show", str(delta), "--json"]) == 0
    capsys.readouterr()
    assert feature_cache(["show", str(delta / "geometry")]) == 0
    shown = capsys.readouterr().out
    assert "sources     none: rows without maps are made from tables" in shown
    assert "parity      part of a delta store" in shown
    assert feature_cache(["show", str(delta), "--picture", "never.png"]) == 1
    assert f"plot what is inside: {delta}/camera or {delta}/lidar" in capsys.readouterr().err
    assert feature_cache(["verify", str(delta)]) == 0
    assert feature_cache(["verify", str(delta), "--nuscenes", str(synthetic_root)]) == 0
    assert feature_cache(["digest", str(delta)]) == 0
    assert digest(delta) in capsys.readouterr().out
    assert feature_cache(["diff", str(delta), str(tiny_store)]) == 0
    assert feature_cache(["diff", str(delta), str(different)]) == 1
    assert "condition.name: mixed in " in capsys.readouterr().out


def test_parity_is_kept_in_the_delta_and_fails_for_a_changed_condition(
    synthetic_root: Path, tiny_store: Path, extracted: Extract, tmp_path: Path, capsys: Output
) -> None:
    store = shutil.copytree(extracted(tiny_store, "mixed"), tmp_path / "delta")
    check = [str(store), "--nuscenes", str(synthetic_root), "--detector-samples", "0"]
    assert check_parity(check) == 0
    note = open_delta(store, CachedFeatures(tiny_store)).parity_note()
    assert note.startswith("holds: 3 of 3 rows")
    changed = tmp_path / "own_conditions.py"
    changed.write_text(OWN.read_text().replace("< 0.5]", "< 0.6]"))
    capsys.readouterr()
    assert check_parity([*check, "--condition", f"{changed}:mixed"]) == 1
    assert "is not the one that" in capsys.readouterr().err


def test_parity_fails_for_rows_of_something_else(
    synthetic_root: Path, tiny_store: Path, extracted: Extract, tmp_path: Path, capsys: Output
) -> None:
    store = shutil.copytree(extracted(tiny_store, "beams-16-even"), tmp_path / "delta")
    fewer = extracted(tiny_store, "beams-8-even")
    for name in ("lidar/stride8", "lidar/stride16"):
        shutil.rmtree(store / "lidar" / name)
        shutil.copytree(fewer / "lidar" / name, store / "lidar" / name)
    check = [str(store), "--nuscenes", str(synthetic_root), "--detector-samples", "0"]
    assert check_parity(check) == 1
    assert "outside their tolerance" in capsys.readouterr().err
    assert open_store(store / "lidar").ledger.complete() == {0}
