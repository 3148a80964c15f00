"""Features of a changed source are never reused: a bit, pixel, digit, token or box is enough.

Each case changes the source itself by the smallest amount and runs the command as a user would.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shared.config.preset_catalogue import tiny
from stage1_extract.__main__ import main as extract_features
from stage1_extract.backbones.frozen import FrozenBackbones
from stage1_extract.backbones.seeded_weights import seed_weights

VERSION = "v1.0-mini"
Table = list[dict[str, Any]]


def options(root: Path, store: Path) -> list[str]:
    where = ["--nuscenes", str(root), "--version", VERSION, "--split", "mini_train"]
    return [*where, "--store", str(store)]


def times(store: Path) -> dict[str, int]:
    return {str(file): file.stat().st_mtime_ns for file in store.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def seeded() -> dict[str, torch.Tensor]:
    """The weights the store was made with."""
    frozen = FrozenBackbones(tiny())
    seed_weights(frozen, 0)
    return frozen.state_dict()


def flip_lowest_bit(tensor: torch.Tensor) -> torch.Tensor:
    content = tensor.numpy().copy()
    content.reshape(-1).view(np.uint8)[0] ^= 1
    return torch.from_numpy(content)


def test_a_checkpoint_with_the_same_weights_resumes_the_store(
    seeded: dict[str, torch.Tensor], synthetic_root: Path, tiny_store: Path, tmp_path: Path
) -> None:
    torch.save({"state_dict": seeded}, tmp_path / "same.pth")
    arguments = ["tiny", *options(synthetic_root, tiny_store)]
    assert extract_features([*arguments, "--checkpoint", str(tmp_path / "same.pth")]) == 0


@pytest.mark.parametrize(
    "name",
    [
        "img_backbone.conv1.weight",
        "img_backbone.bn1.running_var",
        "img_backbone.layer4.2.bn3.num_batches_tracked",
        "pts_middle_encoder.conv_input.0.weight",
        "pts_backbone.blocks.0.1.running_mean",
    ],
)
def test_one_bit_of_a_weight_or_buffer_is_refused(
    name: str,
    seeded: dict[str, torch.Tensor],
    synthetic_root: Path,
    tiny_store: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before, checkpoint = times(tiny_store), tmp_path / "other.pth"
    torch.save({"state_dict": seeded | {name: flip_lowest_bit(seeded[name])}}, checkpoint)

    arguments = ["tiny", *options(synthetic_root, tiny_store), "--checkpoint", str(checkpoint)]
    assert extract_features(arguments) == 1

    (line,) = (text for text in capsys.readouterr().err.splitlines() if "in the store" in text)
    assert line.strip().startswith(f"weights.{name.partition('.')[0]}: ")
    assert "another checkpoint or seed" in line
    assert times(tiny_store) == before


PRESETS = {
    "one pixel of crop": ("camera", "raw_height_px=901", "preset.camera.raw_height_px: 900"),
    "the last digit of a mean": (
        "camera",
        "mean_bgr=(103.530, 116.280, 123.676)",
        "preset.camera.mean_bgr: [103.53, 116.28, 123.675]",
    ),
    "one voxel digit": (
        "grid",
        "voxel_m=(0.2, 0.2, 0.201)",
        "preset.grid.voxel_m: [0.2, 0.2, 0.2]",
    ),
    "one sweep": ("lidar", "sweeps=9", "preset.lidar.sweeps: 10"),
    "one voxel at most": ("lidar", "max_voxels=159_999", "preset.lidar.max_voxels: 160000"),
}


@pytest.mark.parametrize("what", PRESETS)
def test_the_smallest_change_of_preprocessing_is_refused(
    what: str,
    synthetic_root: Path,
    tiny_store: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    branch, change, explanation = PRESETS[what]
    mine, before = tmp_path / "mine.py", times(tiny_store)
    mine.write_text(
        "from dataclasses import replace\n"
        "from shared.config.preset_catalogue import tiny\n"
        "def other():\n"
        f"    return replace(tiny(), {branch}=replace(tiny().{branch}, {change}))\n"
    )

    assert extract_features([f"{mine}:other", *options(synthetic_root, tiny_store)]) == 1

    (line,) = (text for text in capsys.readouterr().err.splitlines() if "in the store" in text)
    assert explanation in line
    assert times(tiny_store) == before


def changed_token(tables: dict[str, Table]) -> None:
    """Rename the second sample everywhere."""
    old = tables["sample"][1]["token"]
    new = old[:-1] + ("0" if old[-1] != "0" else "1")
    text = json.dumps(tables).replace(old, new)
    tables.update(json.loads(text))


def changed_sweep(tables: dict[str, Table]) -> None:
    """Make a LiDAR sweep a microsecond younger."""
    sweep = next(
        row
        for row in tables["sample_data"]
        if not row["is_key_frame"] and row["filename"].startswith("sweeps/LIDAR_TOP")
    )
    sweep["timestamp"] += 1


def changed_box(tables: dict[str, Table]) -> None:
    """Move a box by one float32 step."""
    centre = tables["sample_annotation"][0]["translation"]
    centre[0] = float(np.nextafter(np.float32(centre[0]), np.float32(np.inf)))


def one_point_more(tables: dict[str, Table]) -> None:
    tables["sample_annotation"][0]["num_lidar_pts"] += 1


def changed_calibration(tables: dict[str, Table]) -> None:
    camera = next(row for row in tables["calibrated_sensor"] if row["camera_intrinsic"])
    camera["camera_intrinsic"][0][0] = float(np.nextafter(camera["camera_intrinsic"][0][0], 1e9))


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        (changed_token, ["dataset.tokens", "dataset.inputs"]),
        (changed_sweep, ["dataset.inputs"]),
        (changed_box, ["dataset.inputs"]),
        (one_point_more, ["dataset.inputs"]),
        (changed_calibration, ["dataset.inputs"]),
    ],
)
def test_the_smallest_change_of_the_tables_is_refused(
    change: Callable[[dict[str, Table]], None],
    fields: list[str],
    synthetic_root: Path,
    tiny_store: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root, before = tmp_path / "nuscenes", times(tiny_store)
    for folder in (VERSION, "maps"):  # sensor files are not read
        shutil.copytree(synthetic_root / folder, root / folder)
    files = sorted((root / VERSION).glob("*.json"))
    tables = {file.stem: json.loads(file.read_text()) for file in files}
    change(tables)
    for file in files:
        file.write_text(json.dumps(tables[file.stem]))

    assert extract_features(["tiny", *options(root, tiny_store)]) == 1

    lines = [text for text in capsys.readouterr().err.splitlines() if "in the store" in text]
    assert [line.strip().partition(":")[0] for line in lines] == fields
    assert times(tiny_store) == before


@pytest.mark.parametrize(
    ("option", "explanation"),
    [
        (["--cut", "lidar=neck"], "where the frozen part ends"),
        (["--codec", "uint8-zstd-1"], "number format of the maps"),
        (["--split", "mini_val"], "the list of samples or its order: another split"),
    ],
)
def test_a_different_option_is_refused(
    option: list[str],
    explanation: str,
    synthetic_root: Path,
    tiny_store: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = times(tiny_store)
    assert extract_features(["tiny", *options(synthetic_root, tiny_store), *option]) == 1
    assert explanation in capsys.readouterr().err
    assert times(tiny_store) == before


def test_a_different_precision_is_refused(
    synthetic_root: Path,
    tiny_store: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(FrozenBackbones, "precision", "float16 autocast")
    assert extract_features(["tiny", *options(synthetic_root, tiny_store)]) == 1
    assert "number formats while computing, by device" in capsys.readouterr().err
