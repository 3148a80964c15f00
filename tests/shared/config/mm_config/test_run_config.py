"""Configs run without mmengine define what they define with it."""

from pathlib import Path

import pytest
from mmengine.config import Config

from shared.config.mm_config.run_config import run_config
from shared.errors import ConfigError
from tests.stage1_extract.mm_config.official_configs import mmcv_config, mmdet3d_config

BASE = """
import math
from pathlib import PurePath as _Path
width = 2 ** 8
def twice(x): return 2 * x
numbers = [math.floor(2.5), twice(2), *range(3)]
model = dict(type='A', head=dict(width=width, parts=(dict(a=1), [2, dict(b=3)])), neck=None)
data = dict(train=dict(type='X', times=2), keep=1)
"""
CHILDREN = {
    "nothing of its own": "",
    "a field": "model = dict(head=dict(width=9))",
    "a dict instead of a dict": "model = dict(head=dict(_delete_=True, depth=1))",
    "a dict instead of None": "model = dict(neck=dict(_delete_=True, type='B'))",
    "a mark that means nothing": "model = dict(head=dict(_delete_=False, width=3))",
    "a list instead of a dict": "model = dict(head=[1, 2])",
    "another name": "lr = 1e-4\noptimizer = dict(lr=lr)",
    "a value of the base": "model = dict(neck=dict(_delete_=True, w=_base_.model.head.width))",
    "a value of the base in braces": "lr = {{ _base_.width }}\ncopy = {{_base_.data.train}}",
    "the name of the file": "work_dir = './w/{{ fileBasenameNoExtension }}{{fileExtname}}'",
    "a range": "gpu_ids = list(range(0, 8))",
}


def by_mmengine(path: Path) -> dict[str, object]:
    loaded = Config.fromfile(path, import_custom_modules=False, lazy_import=False)
    result: dict[str, object] = loaded.to_dict()
    return result


@pytest.mark.parametrize("text", CHILDREN.values(), ids=CHILDREN.keys())
@pytest.mark.parametrize("bases", ["'base.py'", "['./base.py', 'more/other.py']"])
def test_a_child_is_merged_as_mmengine_merges_it(tmp_path: Path, text: str, bases: str) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "base.py").write_text(BASE)
    (tmp_path / "more" / "other.py").write_text("_base_ = 'last.py'\nhooks = [dict(a=1)]\n")
    (tmp_path / "more" / "last.py").write_text("hooks = []\nlog = dict(level=1)\n")
    child = tmp_path / "child.py"
    child.write_text(f"_base_ = {bases}\n{text}\n")
    result = run_config(child)
    assert result == by_mmengine(child)
    assert type(result["model"]) is dict


@pytest.mark.parametrize("config", [mmcv_config, mmdet3d_config])
@pytest.mark.parametrize("name", ["r50_800x320", "camera_vov_1600x640"])
def test_the_official_configs_are_the_same(tmp_path: Path, config: object, name: str) -> None:
    assert callable(config)
    path = tmp_path / "a.py"
    path.write_text("\n".join(f"{key} = {value!r}" for key, value in config(name).items()))
    assert run_config(path) == by_mmengine(path) == config(name)


def test_a_dict_over_something_else_is_refused_as_by_mmengine(tmp_path: Path) -> None:
    (tmp_path / "base.py").write_text(BASE)
    child = tmp_path / "child.py"
    child.write_text("_base_ = 'base.py'\nmodel = dict(neck=dict(type='B'))\n")
    with pytest.raises(TypeError, match="neck"):
        run_config(child)
    with pytest.raises(TypeError, match="neck"):
        by_mmengine(child)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("_base_ = ['base.py', 'base.py']", "two of its bases define _Path, data, "),
        ("_base_ = 'mmdet3d::_base_/x.py'", "belongs to an installed package; name its file"),
        ("import os\n_base_ = os.sep", "`_base_` is computed; name the files as texts"),
    ],
)
def test_bases_that_need_mmengine_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "base.py").write_text(BASE)
    child = tmp_path / "child.py"
    child.write_text(text)
    with pytest.raises(ConfigError, match=message):
        run_config(child)
