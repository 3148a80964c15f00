"""An exported checkpoint is the imported one with the trained parts replaced."""

import shutil
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cache.reader import CachedFeatures
from shared.checkpoint.checkpoint_table import FROZEN_PARTS, PARTS, part_of
from shared.checkpoint.strict_loading import read_state
from shared.config.preset_catalogue import tiny
from shared.model.initial_detector import fresh_detector
from stage1_extract.__main__ import main as extract_features
from stage1_extract.backbones.frozen import FrozenBackbones
from stage1_extract.backbones.seeded_weights import seed_weights
from stage2_train.__main__ import main as train_stage2
from stage2_train.evaluate import main as evaluate_stage2
from stage2_train.export_checkpoint import main as export_checkpoint
from stage2_train.run.official_export import synthesised_metadata


def complete_state(seed: int) -> OrderedDict[str, Tensor]:
    """A complete tiny detector as the official code would save it."""
    frozen = FrozenBackbones(tiny())
    seed_weights(frozen, seed)
    state = OrderedDict(frozen.state_dict())
    state.update(fresh_detector(tiny(), seed=seed).state_dict())
    state._metadata = synthesised_metadata(state)  # type: ignore[attr-defined]
    return state


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("official") / "cmt.pth"
    torch.save({"meta": {"epoch": 20}, "state_dict": complete_state(3), "optimizer": {}}, path)
    return path


@pytest.fixture(scope="module")
def store(official: Path, synthetic_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stores") / "official.zarr"
    where = ["--nuscenes", str(synthetic_root), "--version", "v1.0-mini", "--split", "mini_val"]
    arguments = ["tiny", *where, "--store", str(path), "--checkpoint", str(official)]
    assert extract_features(arguments) == 0
    return path


def train(store: Path, out: Path, steps: int, *more: str) -> Path:
    arguments = [str(store), "--out", str(out), "--recipe", "first_steps"]
    assert train_stage2([*arguments, "--stop-after", str(steps), *more]) == 0
    return out


@pytest.fixture(scope="module")
def run(official: Path, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(store, tmp_path_factory.mktemp("run"), 2, "--checkpoint", str(official))


def test_importing_and_exporting_is_bit_identical(
    official: Path, store: Path, tmp_path: Path
) -> None:
    untrained = train(store, tmp_path / "run", 0, "--checkpoint", str(official))
    assert export_checkpoint([str(untrained), "--out", str(tmp_path / "out.pth")]) == 0

    before, after = read_state(official), read_state(tmp_path / "out.pth")

    assert set(before) == set(after)
    assert all(before[key].dtype == after[key].dtype for key in before)
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert before._metadata == after._metadata  # type: ignore[attr-defined]


def test_only_the_trained_parts_differ_after_training(
    official: Path, run: Path, tmp_path: Path
) -> None:
    assert export_checkpoint([str(run), "--out", str(tmp_path / "out.pth")]) == 0

    before, after = read_state(official), read_state(tmp_path / "out.pth")
    trained = torch.load(run / "checkpoint.pt", weights_only=True)["state_dict"]

    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed
    assert {part_of(key) for key in changed} <= PARTS.keys() - set(FROZEN_PARTS)
    assert all(torch.equal(trained[key], after[key]) for key in trained)


def test_the_official_code_finds_its_classes_in_meta(run: Path, tmp_path: Path) -> None:
    assert export_checkpoint([str(run), "--out", str(tmp_path / "out.pth")]) == 0
    content = torch.load(tmp_path / "out.pth", weights_only=True)
    assert content["meta"]["CLASSES"][0] == "car"
    assert set(content) == {"meta", "state_dict"}


def test_the_exported_file_is_evaluated_like_the_run(
    store: Path, run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.pth"
    assert export_checkpoint([str(run), "--out", str(out)]) == 0

    for name, detector in (("run", run), ("file", out)):
        assert evaluate_stage2([str(store), str(detector), "--out", str(tmp_path / name)]) == 0

    results = [(tmp_path / name / "results_nusc.json").read_bytes() for name in ("run", "file")]
    assert results[0] == results[1]


def test_a_run_with_averaged_weights_is_exported_and_started_from_with_them(
    store: Path, run: Path, tmp_path: Path
) -> None:
    """They are what was scored, see test_evaluation."""
    saved = torch.load(run / "checkpoint.pt", weights_only=True)
    averaged = {name: values + 1 for name, values in saved["state_dict"].items()}
    torch.save({**saved, "ema": averaged}, tmp_path / "averaged.pt")

    out = tmp_path / "out.pth"
    assert export_checkpoint([str(tmp_path / "averaged.pt"), "--out", str(out)]) == 0
    started = train(store, tmp_path / "next", 0, "--checkpoint", str(tmp_path / "averaged.pt"))

    exported, first = read_state(out), read_state(started / "checkpoint.pt")
    for name, values in averaged.items():
        assert torch.equal(exported[name], values), name
        assert torch.equal(first[name], values), name


def test_the_exported_file_of_an_aqr_run_keeps_its_aqr(
    official: Path, store: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipes = tmp_path / "recipes.py"
    recipes.write_text(
        "from dataclasses import replace\n"
        "from shared.config.aqr_config import AqrConfig\n"
        "from stage2_train.recipes.recipes import first_steps\n"
        "def routed():\n"
        "    return replace(first_steps(), aqr=AqrConfig(start='upstream', bev_window=3))\n"
    )
    run, out = tmp_path / "run", tmp_path / "out.pth"
    train(store, run, 1, "--checkpoint", str(official), "--recipe", f"{recipes}:routed")
    caplog.set_level("INFO")
    assert export_checkpoint([str(run), "--out", str(out)]) == 0
    assert "the official code has no AQR" in caplog.messages[-1]

    for name, detector in (("run", run), ("file", out)):
        assert evaluate_stage2([str(store), str(detector), "--out", str(tmp_path / name)]) == 0

    results = [(tmp_path / name / "results_nusc.json").read_bytes() for name in ("run", "file")]
    assert results[0] == results[1]


def test_a_different_checkpoint_is_refused(
    run: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign, out = tmp_path / "other.pth", tmp_path / "out.pth"
    torch.save({"state_dict": complete_state(4)}, foreign)

    assert export_checkpoint([str(run), "--out", str(out), "--checkpoint", str(foreign)]) == 1
    assert "not the checkpoint that the features of this run" in capsys.readouterr().err
    assert not out.exists()

    new = ["--out", str(tmp_path / "new"), "--checkpoint", str(foreign)]
    assert train_stage2([str(store), *new]) == 1
    assert "was not made with" in capsys.readouterr().err
    assert evaluate_stage2([str(store), str(foreign), "--out", str(tmp_path / "val")]) == 1
    assert "img_backbone" in capsys.readouterr().err


def test_a_checkpoint_without_backbones_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = str(run / "checkpoint.pt")
    out = str(tmp_path / "out.pth")
    assert export_checkpoint([str(run), "--out", out, "--checkpoint", bare]) == 1
    assert "(missing: img_backbone, pts_backbone, pts_middle_encoder)" in capsys.readouterr().err


def test_a_run_without_a_starting_checkpoint_asks_for_the_backbones(
    official: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scratch, out = train(store, tmp_path / "run", 1), str(tmp_path / "out.pth")
    assert export_checkpoint([str(scratch), "--out", out]) == 1
    assert "name the checkpoint that the store was extracted with" in capsys.readouterr().err
    assert export_checkpoint([str(scratch), "--out", out, "--checkpoint", str(official)]) == 0


def test_a_starting_checkpoint_that_was_moved_has_to_be_named(
    official: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, now, out = (str(tmp_path / name) for name in ("cmt.pth", "moved.pth", "out.pth"))
    shutil.copy(official, before)
    run = str(train(store, tmp_path / "run", 1, "--checkpoint", before))
    Path(before).rename(now)
    assert export_checkpoint([run, "--out", out]) == 1
    assert f"was started from {before}, which is not there any more" in capsys.readouterr().err
    assert export_checkpoint([run, "--out", out, "--checkpoint", now]) == 0


def test_an_existing_file_is_not_overwritten(
    official: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = official.read_bytes()
    assert export_checkpoint([str(run), "--out", str(official)]) == 1
    assert "exists and is not overwritten" in capsys.readouterr().err
    assert official.read_bytes() == before


def test_a_checkpoint_of_spconv_1_gives_the_same_features(
    official: Path, store: Path, synthetic_root: Path, tmp_path: Path
) -> None:
    state = dict(read_state(official))
    for key, value in state.items():
        if value.dim() == 5:
            state[key] = value.permute(1, 2, 3, 4, 0)
    old, again = tmp_path / "old.pth", tmp_path / "again.zarr"
    torch.save({"state_dict": state}, old)
    where = ["--nuscenes", str(synthetic_root), "--version", "v1.0-mini", "--split", "mini_val"]

    assert extract_features(["tiny", *where, "--store", str(again), "--checkpoint", str(old)]) == 0

    assert CachedFeatures(again).identity == CachedFeatures(store).identity
