"""What a command and a loader process import before there is work for it: nothing that is slow."""

import pickle
import subprocess
import sys
from pathlib import Path

from shared.config.augmentation import VariantDraws, official_augmentation
from shared.config.preset_catalogue import tiny
from stage1_extract.nuscenes.nuscenes_tables import read_tables
from stage1_extract.preprocessing.raw_frames import RawFrames

FRAMEWORKS = ("mmdet3d", "mmdet", "mmcv", "mmengine", "spconv.pytorch", "nuscenes")
COMMANDS = ("stage1_extract.__main__", "stage1_extract.check_parity", "stage1_extract.plot_samples")
REPORT = "print(*sorted({names!r} & set(sys.modules)))"


def imported(code: str, *names: str, given: bytes = b"") -> list[str]:
    """Return which of these modules a fresh process has imported after this code."""
    report = REPORT.format(names=set(names))
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\n{report}"],
        input=given,
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().splitlines()[-1].split()


def test_commands_import_no_framework_and_no_devkit() -> None:
    assert imported(f"import {', '.join(COMMANDS)}", *COMMANDS, *FRAMEWORKS) == sorted(COMMANDS)


def test_the_options_of_an_extraction_are_read_without_torch() -> None:
    code = "from stage1_extract.__main__ import options; options().format_help()"
    assert imported(code, "torch", "cv2", "spconv", *FRAMEWORKS) == []


def test_what_is_mistyped_is_refused_without_torch() -> None:
    mistyped = [
        ("tiny", "--checkpoint", "nowhere.pth"),
        ("tinny",),
        ("--config", "nowhere.py"),
        ("--config", "pyproject.toml"),
        ("tiny", "--gpus-per-worker", "1"),
        ("tiny", "--condition", "beams-4-even"),
    ]
    code = f"""
from stage1_extract.__main__ import main
for line in {mistyped!r}:
    assert main([*line, "--nuscenes", "nowhere", "--store", "nowhere.zarr"]) == 1, line
    assert "torch" not in sys.modules, line
"""
    assert imported(code, "torch", *FRAMEWORKS) == []


def test_a_frozen_branch_brings_the_frameworks_and_on_a_cpu_no_gpu_kernels() -> None:
    code = """
from shared.config.preset_catalogue import tiny
from stage1_extract.backbones.frozen import FrozenBackbones
assert "mmdet3d" not in sys.modules
FrozenBackbones(tiny())
import torch
from spconv.algo import CONV
assert bool(CONV.all_desps) == torch.cuda.is_available()  # descriptions of GPU kernels
"""
    assert "mmdet3d" in imported(code, *FRAMEWORKS)


def test_a_loader_process_prepares_frames_without_frameworks_and_devkit(
    synthetic_root: Path,
) -> None:
    records = read_tables(synthetic_root, "v1.0-mini", "mini_train")
    draws = VariantDraws(augmentation=official_augmentation(tiny()))
    frames = pickle.dumps(RawFrames(records, tiny(), draws))
    code = """
import pickle
frames = pickle.load(sys.stdin.buffer)
for frame in (frames[0, 0], frames[1, 0]):
    assert frame.images.any() and len(frame.voxels.means) > 1_000
"""
    loaded = imported(code, "torch", "zarr", "scipy", *FRAMEWORKS, given=frames)
    assert loaded == ["torch"]
