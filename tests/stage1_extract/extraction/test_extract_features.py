"""`extract-features` as a user runs it: it resumes, refuses bad input, and damages nothing."""

import dataclasses
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch

from cache.__main__ import main as feature_cache
from shared.config.preset_catalogue import r50_800x320, tiny
from stage1_extract.__main__ import chosen_preset
from stage1_extract.__main__ import main as extract_features
from stage1_extract.backbones.frozen import FrozenBackbones
from stage1_extract.backbones.seeded_weights import seed_weights
from tests.stage1_extract.mm_config.official_configs import mmcv_config


def options(root: Path, store: Path) -> list[str]:
    where = ["--nuscenes", str(root), "--version", "v1.0-mini", "--split", "mini_train"]
    return ["tiny", *where, "--store", str(store)]


def digest(store: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert feature_cache(["digest", str(store), "--recompute"]) == 0
    return capsys.readouterr().out.strip()


@pytest.fixture
def damaged_root(synthetic_root: Path, tmp_path: Path) -> Path:
    """A copy of the synthetic set whose files may be damaged."""
    root = tmp_path / "nuscenes"
    shutil.copytree(synthetic_root, root)
    return root


def keyframe_file(root: Path, channel: str) -> Path:
    """The second file of a channel: the first sample is extracted before it."""
    return sorted((root / "samples" / channel).iterdir())[1]


def test_ctrl_c_keeps_finished_shards_and_says_how_to_continue(
    synthetic_root: Path,
    tiny_store: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = tmp_path / "new.zarr"
    arguments = [*options(synthetic_root, store), "--shard-mib", "1"]
    original = FrozenBackbones.forward
    calls = iter(range(9))

    def interrupted(self: FrozenBackbones, *inputs: object) -> object:
        if next(calls) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, *inputs)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(FrozenBackbones, "forward", interrupted)
        assert extract_features(arguments) == 128 + signal.SIGINT

    assert "run the same command again to continue" in capsys.readouterr().err
    assert extract_features(arguments) == 0
    assert digest(store, capsys) == digest(tiny_store, capsys)


def test_batch_size_and_loader_processes_change_no_bit_on_a_cpu(
    synthetic_root: Path, tiny_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "batches.zarr"
    arguments = [*options(synthetic_root, store), "--batch-size", "3", "--workers", "1"]
    assert extract_features(arguments) == 0
    assert digest(store, capsys) == digest(tiny_store, capsys)


def test_a_finished_store_is_left_alone(
    synthetic_root: Path, tiny_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {file: file.stat().st_mtime_ns for file in tiny_store.rglob("*") if file.is_file()}

    assert extract_features(options(synthetic_root, tiny_store)) == 0

    after = {file: file.stat().st_mtime_ns for file in tiny_store.rglob("*") if file.is_file()}
    assert after == before


def test_a_missing_jpeg_is_named_and_the_store_resumes_when_it_is_back(
    damaged_root: Path, tiny_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "new.zarr"
    image = keyframe_file(damaged_root, "CAM_BACK")
    away = image.rename(tmp_path / "away.jpg")

    assert extract_features(options(damaged_root, store)) == 1

    assert f"image {image} cannot be read" in capsys.readouterr().err
    away.rename(image)
    assert extract_features(options(damaged_root, store)) == 0
    assert digest(store, capsys) == digest(tiny_store, capsys)


def test_a_truncated_jpeg_is_named(
    damaged_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = keyframe_file(damaged_root, "CAM_FRONT")
    image.write_bytes(image.read_bytes()[:-1000])

    assert extract_features(options(damaged_root, tmp_path / "new.zarr")) == 1

    message = capsys.readouterr().err
    assert str(image) in message
    assert "truncated" in message


def test_a_truncated_point_cloud_is_named(
    damaged_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud = keyframe_file(damaged_root, "LIDAR_TOP")
    cloud.write_bytes(cloud.read_bytes()[:-3])

    assert extract_features(options(damaged_root, tmp_path / "new.zarr")) == 1

    message = capsys.readouterr().err
    assert str(cloud) in message
    assert "truncated" in message


def test_an_unknown_split_is_refused_with_the_known_ones(
    synthetic_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = options(synthetic_root, tmp_path / "new.zarr")
    arguments[arguments.index("mini_train")] = "mini_trian"

    assert extract_features(arguments) == 1

    message = capsys.readouterr().err
    assert "mini_trian" in message
    assert "mini_train" in message
    assert not (tmp_path / "new.zarr").exists()


def test_an_unknown_preset_is_refused_with_the_known_ones(
    synthetic_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert extract_features(["tinny", *options(synthetic_root, tmp_path / "new.zarr")[1:]]) == 1

    assert "did you mean tiny? Known are r50_800x320, vov_1600x640" in capsys.readouterr().err


def test_a_store_of_a_different_preset_is_refused_by_field_and_unchanged(
    synthetic_root: Path, tiny_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = digest(tiny_store, capsys)
    mine = tmp_path / "mine.py"
    mine.write_text(
        "import dataclasses\n"
        "from shared.config.preset_catalogue import tiny\n"
        "def sharper():\n"
        "    preset = tiny()\n"
        "    camera = dataclasses.replace(preset.camera, height_px=160)\n"
        "    return dataclasses.replace(preset, camera=camera)\n"
    )

    status = extract_features([f"{mine}:sharper", *options(synthetic_root, tiny_store)[1:]])

    message = capsys.readouterr().err
    assert status == 1
    assert "preset.camera.height_px: 64 in the store, 160 asked for" in message
    assert "Nothing was changed" in message
    assert digest(tiny_store, capsys) == before


@pytest.mark.parametrize(
    ("named", "message"),
    [([], "name either a preset"), (["tiny", "--config", "cmt.py"], "not both")],
    ids=["neither", "both"],
)
def test_a_preset_or_a_config_file_is_named(
    named: list[str],
    message: str,
    synthetic_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = tmp_path / "new.zarr"
    assert extract_features([*named, *options(synthetic_root, store)[1:]]) == 1
    assert message in capsys.readouterr().err
    assert not store.exists()


def test_a_config_file_stands_for_the_preset_it_describes(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    config = mmcv_config("r50_800x320")
    file.write_text("\n".join(f"{name} = {value!r}" for name, value in config.items()))
    assert chosen_preset(None, file) == dataclasses.replace(r50_800x320(), name="mine")


def test_a_config_with_two_models_is_refused(
    synthetic_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, store = tmp_path / "twice.py", tmp_path / "new.zarr"
    file.write_text("model = dict(type='CmtDetector')\nmodel = dict(type='CmtDetector')\n")
    arguments = ["--config", str(file), *options(synthetic_root, store)[1:]]
    assert extract_features(arguments) == 1
    assert "at line 1 and again at line 2" in capsys.readouterr().err
    assert not store.exists()


def test_a_checkpoint_with_a_changed_byte_has_a_different_identity(
    synthetic_root: Path, tiny_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frozen = FrozenBackbones(tiny())
    seed_weights(frozen, 0)
    state = frozen.state_dict()
    state["pts_backbone.blocks.0.1.running_mean"][0] += 1e-6
    checkpoint = tmp_path / "other.pth"
    torch.save({"state_dict": state}, checkpoint)

    arguments = [*options(synthetic_root, tiny_store), "--checkpoint", str(checkpoint)]

    assert extract_features(arguments) == 1
    assert "weights.pts_backbone" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state_dict": {"layer1.0.conv1.weight": torch.zeros(1)}}, "holds only an image backbone"),
        ({"model": {}}, "has no `state_dict` at its top level"),
        ({"state_dict": {}, "meta": Path("x")}, "would run code from the file"),
    ],
    ids=["backbone only", "no state_dict", "code"],
)
def test_a_foreign_checkpoint_is_refused_before_anything_is_created(
    content: dict[str, object],
    message: str,
    synthetic_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoint, store = tmp_path / "foreign.pth", tmp_path / "new.zarr"
    torch.save(content, checkpoint)

    arguments = [*options(synthetic_root, store), "--checkpoint", str(checkpoint)]

    assert extract_features(arguments) == 1
    error = capsys.readouterr().err
    assert message in error
    assert str(checkpoint) in error
    assert not store.exists()


def test_a_truncated_checkpoint_is_refused(
    synthetic_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = tmp_path / "short.pth"
    torch.save({"state_dict": {"a": torch.zeros(1000)}}, checkpoint)
    checkpoint.write_bytes(checkpoint.read_bytes()[:-500])

    arguments = options(synthetic_root, tmp_path / "new.zarr")

    assert extract_features([*arguments, "--checkpoint", str(checkpoint)]) == 1
    assert "may be truncated" in capsys.readouterr().err


def test_weights_that_change_while_extracting_stop_the_run(
    synthetic_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = FrozenBackbones.forward

    def drifting(self: FrozenBackbones, *arguments: object) -> object:
        with torch.inference_mode():
            self.pts_backbone.state_dict()["blocks.0.1.running_mean"].add_(1.0)
        return original(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(FrozenBackbones, "forward", drifting)

    assert extract_features(options(synthetic_root, tmp_path / "new.zarr")) == 1
    assert "pts_backbone changed while extracting" in capsys.readouterr().err


@pytest.mark.gpu
def test_on_a_gpu_a_store_keeps_its_batch_size(
    synthetic_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = options(synthetic_root, tmp_path / "gpu.zarr")
    assert extract_features([*arguments, "--batch-size", "2"]) == 0
    before = digest(tmp_path / "gpu.zarr", capsys)
    assert extract_features([*arguments, "--batch-size", "3"]) == 1
    message = capsys.readouterr().err
    assert "batches of 2 in the store" in message
    assert "batches of 3 asked for" in message
    assert "--batch-size" in message
    assert extract_features(arguments) == 0  # as in the store
    assert digest(tmp_path / "gpu.zarr", capsys) == before
