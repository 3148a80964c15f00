"""mmdet and mmdet3d import without mmcv's compiled ops, and a compiled mmcv is left alone."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stage1_extract.backbones.mmcv_ops import (
    EXTENSION,
    MissingOpError,
    MissingOps,
    allow_missing_ops,
    has_compiled_ops,
)

REPOSITORY = Path(__file__).parents[3]
IMPORTED_FIRST = "import mmcv._ext; "
REPORT = """
import importlib
from stage1_extract.backbones.mmcv_ops import has_compiled_ops
print(has_compiled_ops(), importlib.import_module("mmcv._ext").nms)
"""


def report_with(folder: Path, *, files: dict[str, str], first: str = "") -> str:
    """Return what a fresh process prints of the package `mmcv` that these files are."""
    for name, text in files.items():
        (folder / "mmcv").mkdir(exist_ok=True)
        (folder / "mmcv" / name).write_text(text)
    return subprocess.run(
        [sys.executable, "-c", first + REPORT],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(REPOSITORY)])},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout.strip()


@pytest.mark.parametrize("module", ["mmcv.ops", "mmdet.models", "mmdet3d.models"])
def test_the_packages_that_need_the_extension_import(module: str) -> None:
    assert importlib.import_module(module) is sys.modules[module]


def test_an_op_that_is_called_names_itself_and_the_remedy() -> None:
    with pytest.raises(
        MissingOpError, match=r"compiled op nms was called.*pip install .* mmcv==2\.1\.0"
    ):
        MissingOps(EXTENSION).nms(torch.zeros(1, 4), iou_threshold=0.5)


@pytest.mark.skipif(has_compiled_ops(), reason="this mmcv has compiled ops")
def test_an_op_called_through_mmcv_names_itself() -> None:
    from mmcv.ops import Voxelization

    voxelize = Voxelization([1.0] * 3, [0.0] * 3 + [9.0] * 3, max_num_points=10)
    with pytest.raises(MissingOpError, match="compiled op hard_voxelize_forward was called"):
        voxelize(torch.zeros(1, 5))


@pytest.mark.parametrize("first", ["", IMPORTED_FIRST])
def test_a_compiled_extension_is_left_alone(tmp_path: Path, first: str) -> None:
    files = {"__init__.py": "", "_ext.py": "nms = 'compiled'"}
    assert report_with(tmp_path, files=files, first=first) == "True compiled"


def test_the_stand_in_takes_the_place_of_a_missing_extension(tmp_path: Path) -> None:
    answer = report_with(tmp_path, files={"__init__.py": ""})
    assert answer.startswith("False <function MissingOps.__getattr__.<locals>.refuse")


def test_without_any_mmcv_there_is_no_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mmcv", None)
    monkeypatch.delitem(sys.modules, EXTENSION, raising=False)
    allow_missing_ops()
    assert EXTENSION not in sys.modules
    assert not has_compiled_ops()
