"""The checkpoint that ships: it is found by its name, whole, and refused when it is not."""

from pathlib import Path

import pytest

from shared.checkpoint import shipped_checkpoint
from shared.checkpoint.checkpoint_table import PARTS, part_of
from shared.checkpoint.shipped_checkpoint import TINY_FILE, checkpoint_path
from shared.checkpoint.strict_loading import load_parts, read_checkpoint, read_state
from shared.config.config_json import from_json
from shared.config.preset import Preset
from shared.config.preset_catalogue import tiny
from shared.errors import CheckpointError
from shared.model.initial_detector import aqr_config_of, fresh_detector
from stage1_extract.backbones.weights import frozen_backbones
from stage2_train.__main__ import main as train_stage2


def test_its_name_is_that_of_no_other_file() -> None:
    assert checkpoint_path("tiny") == TINY_FILE
    assert checkpoint_path("./tiny") == Path("tiny")
    assert checkpoint_path("tiny.pth") == Path("tiny.pth")


def test_it_is_a_complete_detector_of_the_preset_tiny() -> None:
    meta = read_checkpoint(TINY_FILE)["meta"]
    assert from_json(Preset, meta["frozen_cmt"]["preset"]) == tiny()
    assert aqr_config_of(TINY_FILE) is None

    state = read_state(TINY_FILE)
    assert {part_of(name) for name in state} == set(PARTS)
    backbones, _ = frozen_backbones(tiny(), TINY_FILE)
    detector = fresh_detector(tiny(), seed=0, checkpoint=TINY_FILE)
    for module in (backbones, detector):
        for name, tensor in module.state_dict().items():
            assert tensor.isfinite().all(), name
    trained = detector.pts_bbox_head.reference_points.weight
    assert not trained.equal(fresh_detector(tiny(), seed=0).pts_bbox_head.reference_points.weight)
    load_parts(detector, state, ["pts_bbox_head"], path=TINY_FILE)


def test_a_damaged_copy_is_refused_by_every_reader(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_store: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    content = bytearray(TINY_FILE.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = tmp_path / "tiny.pth"
    damaged.write_bytes(content)
    monkeypatch.setattr(shipped_checkpoint, "TINY_FILE", damaged)

    with pytest.raises(CheckpointError, match="is not the one that this version ships"):
        read_checkpoint(checkpoint_path("tiny"))
    words = [str(tiny_store), "--out", str(tmp_path / "run"), "--checkpoint", "tiny"]
    assert train_stage2([*words, "--recipe", "first_steps"]) == 1
    assert "Install frozen-cmt again" in capsys.readouterr().err


def test_a_store_of_other_backbones_is_refused_with_it(
    tmp_path: Path, tiny_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(tiny_store), "--out", str(tmp_path / "run"), "--checkpoint", "tiny"]
    assert train_stage2([*words, "--recipe", "first_steps"]) == 1
    assert f"was not made with {TINY_FILE}" in capsys.readouterr().err
