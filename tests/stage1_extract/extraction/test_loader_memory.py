"""What loader processes need is known before they start."""

import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from shared.config.preset import Preset
from shared.config.preset_catalogue import tiny, vov_1600x640
from shared.process import shared_memory
from stage1_extract.__main__ import main as extract_features
from stage1_extract.extraction.stage_widths import loader_memory, most_raw_bytes
from stage1_extract.nuscenes.nuscenes_tables import read_tables
from stage1_extract.preprocessing.raw_frames import RawFrame, RawFrames
from tests.child_processes import PATIENCE_S, REPOSITORY

MEASURE = "tests.stage1_extract.extraction.shared_memory_in_use"


def tensor_bytes(frame: RawFrame) -> int:
    """Return what pickling a raw frame moves to shared memory: whole storages."""
    held = [frame.images]
    if frame.voxels is not None:
        held += [getattr(frame.voxels, field.name) for field in fields(frame.voxels)]
    tensors = [value for value in held if isinstance(value, torch.Tensor)]
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors)


@pytest.mark.parametrize("kept", ["both", "camera", "lidar"])
def test_a_raw_frame_is_as_large_as_forecast(synthetic_root: Path, kept: str) -> None:
    preset: Preset = tiny()
    if kept != "both":
        preset = replace(preset, **{"lidar" if kept == "camera" else "camera": None})
    frame = RawFrames(read_tables(synthetic_root, "v1.0-mini", "mini_train"), preset)[0, 1]

    unused = 0
    if frame.voxels is not None:
        assert preset.lidar is not None
        bytes_of_a_voxel = tensor_bytes(replace(frame, images=None)) / len(frame.voxels.counts)
        unused = (preset.lidar.max_voxels - len(frame.voxels.counts)) * int(bytes_of_a_voxel)
    assert tensor_bytes(frame) + unused == most_raw_bytes(preset)


def test_a_sample_of_the_largest_preset_needs_more_than_a_container_has() -> None:
    images = 6 * 3 * 640 * 1600 * 4
    assert most_raw_bytes(vov_1600x640()) == images + 160_000 * (10 * 5 + 3 + 1) * 4
    assert images > 64 * 2**20


def test_extraction_says_so_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shared_memory, "SHM", tmp_path)
    free = type("Usage", (), {"free": 64 * 2**20})
    monkeypatch.setattr("shutil.disk_usage", lambda _: free)
    where = ["--nuscenes", str(tmp_path / "nowhere"), "--store", str(tmp_path / "store.zarr")]

    assert extract_features(["vov_1600x640", *where, "--workers", "2"]) == 1

    said = capsys.readouterr().err
    assert "error: --workers 2: 2 loader processes need up to" in said
    assert "67108864 bytes free" in said
    assert "--workers 0" in said
    assert not (tmp_path / "store.zarr").exists()


@pytest.mark.parametrize(("workers", "batch_size"), [(1, 1), (2, 3)])
def test_loading_takes_what_is_forecast_or_somewhat_less(workers: int, batch_size: int) -> None:
    words = [sys.executable, "-m", MEASURE, str(workers), str(batch_size)]
    isolated = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /dev/shm && exec "$@"', "-"]
    done = subprocess.run(
        [*isolated, *words],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    if done.returncode and "Traceback" not in done.stderr:
        pytest.skip(f"/dev/shm cannot be replaced here: {done.stderr}")
    most = int(done.stdout)
    assert most <= loader_memory(2**20, batch_size, workers) < 2.5 * most
