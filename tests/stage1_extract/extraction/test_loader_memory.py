"""The memory of a loaded sample is known before any is loaded."""

from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from shared.config.preset import Preset
from shared.config.preset_catalogue import tiny, vov_1600x640
from stage1_extract.extraction.stages.stage_widths import most_raw_bytes
from stage1_extract.nuscenes.nuscenes_tables import read_tables
from stage1_extract.preprocessing.raw_frames import RawFrame, RawFrames


def tensor_bytes(frame: RawFrame) -> int:
    """Return the bytes of a raw frame's tensors: whole storages."""
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
    records = read_tables(synthetic_root, "v1.0-mini", "mini_train")
    frame = RawFrames(records, preset)[0, 1]

    unused = 0
    if frame.voxels is not None:
        assert preset.lidar is not None
        bytes_of_a_voxel = tensor_bytes(replace(frame, images=None)) / len(frame.voxels.means)
        unused = (preset.lidar.max_voxels - len(frame.voxels.means)) * int(bytes_of_a_voxel)
    assert tensor_bytes(frame) + unused == most_raw_bytes(preset)


def test_a_sample_of_the_largest_preset_has_24_mb() -> None:
    images = 6 * 3 * 640 * 1600
    assert most_raw_bytes(vov_1600x640()) == images + 160_000 * (5 + 3) * 4
    assert most_raw_bytes(vov_1600x640()) == 23_552_000
