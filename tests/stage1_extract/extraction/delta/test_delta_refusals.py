"""`extract-features --condition` as a user runs it: what needs no backbone, what is refused."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import stage1_extract.extraction.delta.extract_delta as extract_delta_module
from cache.coordination.store import open_store
from cache.delta.open_features import open_delta
from cache.extend import extend_variants
from cache.reader import CachedFeatures
from cache.storage.location import as_store_path
from stage1_extract.__main__ import main as extract_features
from stage1_extract.check_parity import main as check_parity
from stage1_extract.conditions.catalogue.condition_catalogue import CATALOGUE, load_condition
from stage1_extract.extraction.fill_store import fill_store
from stage2_train.__main__ import main as train_stage2
from tests.stage1_extract.extraction.delta.conftest import OWN, delta_options

Extract = Callable[[Path, str], Path]
Output = pytest.CaptureFixture[str]


@pytest.fixture
def no_backbones(monkeypatch: pytest.MonkeyPatch) -> None:
    """No backbone may be built."""

    def refuse(*_: object) -> object:
        raise AssertionError("a backbone was built")

    monkeypatch.setattr(extract_delta_module, "frozen_backbones", refuse)


@pytest.mark.usefixtures("no_backbones")
@pytest.mark.parametrize(
    "condition",
    ["extrinsics-single", "camera-stuck-50", "lidar-stuck-90", "cameras-60", "lidar-drop"],
)
def test_these_run_no_backbone(
    synthetic_root: Path, tiny_store: Path, tmp_path: Path, condition: str
) -> None:
    store = tmp_path / "delta"
    assert extract_features(delta_options(synthetic_root, tiny_store, store, condition)) == 0
    assert open_delta(store, CachedFeatures(tiny_store)).condition.name == condition
    assert sum(file.stat().st_size for file in store.rglob("*") if file.is_file()) < 50_000


def refused(capsys: Output, arguments: list[str], *words: str) -> None:
    capsys.readouterr()
    assert extract_features(arguments) == 1
    message = capsys.readouterr().err
    assert all(word in message for word in words), message


def test_a_condition_that_changes_nothing(
    synthetic_root: Path, tiny_store: Path, tmp_path: Path, capsys: Output
) -> None:
    store = tmp_path / "delta"
    command = delta_options(synthetic_root, tiny_store, store, "unchanged")
    refused(capsys, command, "equals the clean store", "unchanged changed no value")
    meant = delta_options(synthetic_root, tiny_store, tmp_path / "meant", "meant")
    assert extract_features(meant) == 0


@pytest.mark.usefixtures("no_backbones")
def test_a_condition_that_touches_nothing(
    synthetic_root: Path, tiny_store: Path, tmp_path: Path, capsys: Output
) -> None:
    store = tmp_path / "delta"
    command = delta_options(synthetic_root, tiny_store, store, "untouched")
    refused(capsys, command, "touches no sensor of any of the 3 samples")
    assert not store.exists()


def test_a_condition_that_forgot_the_sweeps(
    synthetic_root: Path, tiny_store: Path, tmp_path: Path, capsys: Output
) -> None:
    store = tmp_path / "delta"
    command = delta_options(synthetic_root, tiny_store, store, "only_keyframes")
    refused(capsys, command, "only-keyframes forgot the sweeps", "LiDAR keyframe of 3")
    assert not store.exists()
    meant = delta_options(synthetic_root, tiny_store, tmp_path / "on", "keyframes_on_purpose")
    assert extract_features(meant) == 0


def test_a_base_that_was_made_from_something_else(
    synthetic_root: Path, tiny_store: Path, tmp_path: Path, capsys: Output
) -> None:
    store = tmp_path / "delta"
    command = delta_options(synthetic_root, tiny_store, store, "lidar-drop")
    refused(capsys, [*command, "--split", "mini_val"], "was not made from", "dataset.tokens")
    refused(capsys, ["r50_800x320", *command[1:]], "was not made from", "preset.camera")
    refused(capsys, [*command, "--codec", "none"], "--codec none differs from the base")
    refused(capsys, [*command, "--variants", "2"], "--variants 2 differs from the base")
    refused(capsys, [*command, "--cut", "memory"], "--cut memory differs from the base")
    assert not store.exists()


def test_a_base_of_other_weights(
    synthetic_root: Path,
    tiny_store: Path,
    tmp_path: Path,
    capsys: Output,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stage1_extract.backbones.weights.SEED", 1)
    command = delta_options(synthetic_root, tiny_store, tmp_path / "delta", "occlusion")
    refused(capsys, command, "was not made from", "weights.img_backbone", "another checkpoint")


def test_a_base_of_other_sensor_files(
    synthetic_root: Path, tiny_store: Path, tmp_path: Path, capsys: Output
) -> None:
    root = shutil.copytree(synthetic_root, tmp_path / "nuscenes")
    first, second, *_ = sorted((root / "samples/CAM_FRONT").iterdir())
    shutil.copy(second, first)
    command = delta_options(root, tiny_store, tmp_path / "delta", "occlusion")
    refused(capsys, command, first.name)


def test_a_base_that_is_not_finished_or_no_store(
    synthetic_root: Path, tiny_store: Path, extracted: Extract, tmp_path: Path, capsys: Output
) -> None:
    unfinished = shutil.copytree(tiny_store, tmp_path / "unfinished.zarr")
    (unfinished / "ledger/000000.json").unlink()
    command = delta_options(synthetic_root, unfinished, tmp_path / "delta", "lidar-drop")
    refused(capsys, command, "is not finished", "3 of 3 samples are missing")
    delta = extracted(tiny_store, "beams-4-even")
    command = delta_options(synthetic_root, delta, tmp_path / "delta", "lidar-drop")
    refused(capsys, command, "is a delta store", "Name that store here")


@pytest.mark.usefixtures("no_backbones")
def test_a_base_that_gets_variants_while_the_delta_is_extracted(
    synthetic_root: Path,
    tiny_store: Path,
    tmp_path: Path,
    capsys: Output,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = as_store_path(shutil.copytree(tiny_store, tmp_path / "base.zarr"))
    before, fill = open_store(base).metadata, extract_delta_module._fill

    def fill_meanwhile(*arguments: Any) -> int:
        extend_variants(base, {**before.identity, "variants": 2}, before.provenance)
        return fill(*arguments)

    monkeypatch.setattr(extract_delta_module, "_fill", fill_meanwhile)
    command = delta_options(synthetic_root, base, tmp_path / "delta", "lidar-drop")
    refused(capsys, command, "has 1 variants per sample, and", "has 2: variants were added since")


def test_a_base_without_null_features_for_absent_sensors(
    synthetic_root: Path, tiny_store: Path, tmp_path: Path, capsys: Output
) -> None:
    base = shutil.copytree(tiny_store, tmp_path / "base.zarr")
    shutil.rmtree(base / "null")
    command = delta_options(synthetic_root, base, tmp_path / "delta", "lidar-drop")
    refused(capsys, command, "has no null features")


def test_a_place_that_holds_something_else(
    synthetic_root: Path, tiny_store: Path, extracted: Extract, tmp_path: Path, capsys: Output
) -> None:
    store = shutil.copytree(tiny_store, tmp_path / "store.zarr")
    command = delta_options(synthetic_root, tiny_store, store, "lidar-drop")
    refused(capsys, command, "is a feature store, not a delta store")
    delta = shutil.copytree(extracted(tiny_store, "beams-4-even"), tmp_path / "delta")
    command = delta_options(synthetic_root, tiny_store, delta, "lidar-drop")
    refused(capsys, command, "condition.name: beams-4-even in the store, lidar-drop asked for")
    plain = ["tiny", *command[1:3], "--version", "v1.0-mini", "--split", "mini_train"]
    refused(capsys, [*plain, "--store", str(delta)], "is a delta store", "--condition")


@pytest.mark.usefixtures("no_backbones")
def test_a_condition_that_does_something_else_since(
    synthetic_root: Path,
    tiny_store: Path,
    tmp_path: Path,
    capsys: Output,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    delta = tmp_path / "delta"
    command = delta_options(synthetic_root, tiny_store, delta, "cameras-60")
    assert extract_features(command) == 0
    check = [str(delta), "--nuscenes", str(synthetic_root), "--detector-samples", "0"]
    assert check_parity(check) == 0
    revised = replace(load_condition("cameras-60"), revision=2)
    monkeypatch.setattr(
        "stage1_extract.conditions.catalogue.condition_catalogue.CATALOGUE",
        {**CATALOGUE, "cameras-60": lambda: revised},
    )

    refused(
        capsys, command, "condition.revision: absent in the store, 2 asked for", "without a num"
    )
    assert check_parity(check) == 1
    message = capsys.readouterr().err
    assert "revision: absent in the delta, 2 now" in message
    assert "with this one, extract it again into a different --store" in message
    assert open_delta(delta, CachedFeatures(tiny_store)).condition.name == "cameras-60"
    again = delta_options(synthetic_root, tiny_store, tmp_path / "again", "cameras-60")
    assert extract_features(again) == 0
    first, second = (
        open_delta(path, CachedFeatures(tiny_store)).identity_digest
        for path in (delta, tmp_path / "again")
    )
    assert first != second


@pytest.mark.usefixtures("no_backbones")
def test_a_condition_of_a_user_whose_file_was_edited(
    synthetic_root: Path, tiny_store: Path, tmp_path: Path, capsys: Output
) -> None:
    file, delta = tmp_path / "mine.py", tmp_path / "delta"
    file.write_text(OWN.read_text())
    command = delta_options(synthetic_root, tiny_store, delta, "stuck-third")
    command[-1] = f"{file}:front_stuck_in_the_third_sample"
    assert extract_features(command) == 0
    file.write_text(OWN.read_text() + "\nLATER = 1\n")
    refused(capsys, command, "was not made from", "condition.user_file: ")


def test_a_condition_of_a_user_whose_file_is_edited_while_it_is_extracted(
    synthetic_root: Path,
    tiny_store: Path,
    tmp_path: Path,
    capsys: Output,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file, delta = tmp_path / "mine.py", tmp_path / "delta"
    file.write_text(OWN.read_text())
    command = delta_options(synthetic_root, tiny_store, delta, "mixed")
    command[-1] = f"{file}:mixed"
    command += ["--workers", "1"]

    def fill_and_edit(*arguments: Any, **options: Any) -> None:
        fill_store(*arguments, **options)  # the cameras
        file.write_text(OWN.read_text().replace("< 0.5", "< 0.4"))  # of the points

    monkeypatch.setattr(extract_delta_module, "fill_store", fill_and_edit)
    refused(capsys, command, f"condition {file}:mixed is not what it was", "its user_file differs")
    refused(capsys, command, "was not made from", "condition.user_file: ")
    monkeypatch.setattr(extract_delta_module, "fill_store", fill_store)
    file.write_text(OWN.read_text())
    assert extract_features(command) == 0


def test_half_of_the_options(
    synthetic_root: Path, tiny_store: Path, tmp_path: Path, capsys: Output
) -> None:
    command = delta_options(synthetic_root, tiny_store, tmp_path / "delta", "lidar-drop")
    refused(capsys, command[:-2], "--base needs --condition")
    without_base = [*command[:3], *command[5:]]
    refused(capsys, without_base, "--condition needs --base")


def test_training_from_a_delta_alone_says_what_it_is(
    tiny_store: Path, extracted: Extract, tmp_path: Path, capsys: Output
) -> None:
    delta = extracted(tiny_store, "beams-4-even")
    assert train_stage2([str(delta), "--out", str(tmp_path / "run")]) == 1
    message = capsys.readouterr().err
    assert "is a delta store: it holds only what a condition changes" in message


def test_a_base_that_is_not_where_it_was_is_to_be_named(
    synthetic_root: Path,
    tiny_store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Output,
) -> None:
    base, delta = shutil.copytree(tiny_store, tmp_path / "val.zarr"), tmp_path / "delta"
    monkeypatch.chdir(tmp_path)
    command = delta_options(synthetic_root, Path("val.zarr"), delta, "cameras-60")
    assert extract_features(command) == 0
    monkeypatch.chdir(tmp_path.parent)
    check = [str(delta), "--nuscenes", str(synthetic_root), "--detector-samples", "0"]
    assert check_parity(check) == 0  # its place was recorded as absolute

    base.rename(tmp_path / "moved.zarr")
    capsys.readouterr()
    assert check_parity(check) == 1
    assert (
        f"the base of {delta} was at {base}, and cannot be opened there; name it with --base"
        in (capsys.readouterr().err)
    )
    assert check_parity([*check, "--base", str(tmp_path / "moved.zarr")]) == 0
    command = delta_options(synthetic_root, tmp_path / "moved.zarr", delta, "cameras-60")
    assert extract_features(command) == 0  # the place is no part of the identity
