"""The command keeps its result in the store, and training quotes it."""

import errno
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cache.coordination.store import open_store
from cache.inspection.content_digest import content_digest
from cache.inspection.parity_record import parity_note, read_record, record_path
from shared.data.features import FrameFeatures
from shared.errors import ConfigError
from stage1_extract.check_parity import main as check_parity
from stage1_extract.check_parity import require_writable
from stage1_extract.parity.compare_sources import compare_sources
from stage2_train.__main__ import main as train_stage2
from tests.stage1_extract.parity.test_parity import Changed


def moved_camera(features: FrameFeatures) -> FrameFeatures:
    matrices = features.frame.img_from_lidar.copy()
    matrices[0, 0, 3] += 1e-9
    return replace(features, frame=replace(features.frame, img_from_lidar=matrices))


def test_the_store_keeps_the_result_and_training_quotes_it(
    tiny_store: Path,
    synthetic_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = shutil.copytree(tiny_store, tmp_path / "store.zarr")
    store, digest = open_store(path), content_digest(open_store(tiny_store))
    command = [str(path), "--nuscenes", str(synthetic_root), "--detector-samples", "0"]

    assert check_parity([*command, "--seed", "7"]) == 0

    record = read_record(record_path(store))
    assert record is not None
    assert (record.rows, record.total_rows, record.seed, record.failed) == (3, 3, 7, ())
    assert record.content.content_digest == content_digest(store) == digest
    assert record.margins["geometry and annotations"] == 0
    caplog.set_level("INFO")
    run = tmp_path / "run"
    train = [str(path), "--out", str(run), "--recipe", "first_steps", "--stop-after", "0"]
    assert train_stage2(train) == 0
    assert f"parity of the store: {parity_note(store)}" in caplog.text
    assert json.loads((run / "freezing.json").read_text())["parity"] == parity_note(store)

    monkeypatch.setattr(
        "stage1_extract.check_parity.compare_sources",
        lambda live, cached, *rest: compare_sources(live, Changed(cached, moved_camera), *rest),
    )
    assert check_parity([*command, "--samples", "1"]) == 1
    assert parity_note(store).startswith("FAILED: ")
    assert "geometry and annotations at batch size" in parity_note(store)


def test_a_place_of_json_that_cannot_be_written_is_refused_before_anything_is_computed(
    tiny_store: Path,
    synthetic_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delattr("stage1_extract.check_parity.store_pair")
    command = [str(tiny_store), "--nuscenes", str(synthetic_root), "--json"]
    assert check_parity([*command, str(tmp_path / "no/parity.json")]) == 1
    assert f"there is no folder {tmp_path / 'no'}; create it first" in capsys.readouterr().err
    assert check_parity([*command, str(tmp_path)]) == 1
    assert "a folder, or not writable" in capsys.readouterr().err
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(ConfigError, match=r"parity\.json: a folder, or not writable"):
        require_writable(tmp_path / "parity.json")


def test_the_store_keeps_the_result_though_json_cannot_be_written_in_the_end(
    tiny_store: Path, synthetic_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shutil.copytree(tiny_store, tmp_path / "store.zarr")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "parity.json")

    monkeypatch.setattr(Path, "write_text", full)
    where = ["--nuscenes", str(synthetic_root), "--json", str(tmp_path / "parity.json")]
    assert check_parity([str(path), *where, "--samples", "1", "--detector-samples", "0"]) == 1
    record = read_record(record_path(open_store(path)))
    assert record is not None
    assert record.rows == 1
