"""A config file is run as mm runs it, and refused if it loses its model or cannot be run."""

import re
from pathlib import Path

import pytest

from shared.config.mm_config.load_config import load_mm_config
from shared.errors import ConfigError


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_mm_config(path)
    return str(caught.value)


def test_names_become_plain_values(tmp_path: Path) -> None:
    path = write(tmp_path / "a.py", "size = [0.1, 0.2]\nmodel = dict(size=size, pair=(1, 2))\n")
    config = load_mm_config(path)
    assert config == {"size": [0.1, 0.2], "model": {"size": [0.1, 0.2], "pair": (1, 2)}}
    assert type(config["model"]) is dict


def test_a_plugin_that_is_not_installed_does_not_matter(tmp_path: Path) -> None:
    text = (
        "custom_imports = dict(imports=['no.such.plugin'], allow_failed_imports=False)\n"
        "plugin = True\nplugin_dir = 'no/such/plugin/'\nmodel = dict(a=1)\n"
    )
    assert load_mm_config(write(tmp_path / "a.py", text))["model"] == {"a": 1}


def test_a_base_that_the_child_overrides_is_inheritance(tmp_path: Path) -> None:
    write(tmp_path / "base.py", "model = dict(a=1, b=dict(c=2, d=3))\n")
    child = write(tmp_path / "child.py", "_base_ = './base.py'\nmodel = dict(b=dict(c=4))\n")
    assert load_mm_config(child)["model"] == {"a": 1, "b": {"c": 4, "d": 3}}


def test_a_second_model_is_refused_with_both_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "a.py", "model = dict(a=1)\n\nlr = 1\nmodel = dict(b=2)\n")
    assert re.search(
        r"a\.py assigns `model` at line 1 and again at line 4; Python keeps only the second, and "
        r"what precedes it is silently lost: merge them into one",
        refusal(path),
    )


def test_a_third_model_is_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.py", "model = dict(a=1)\nmodel: dict = {}\na, model = 1, {}\n")
    assert "at line 1 and again at line 2 and again at line 3; Python keeps only the last" in (
        refusal(path)
    )


def test_a_second_model_in_a_base_is_refused_too(tmp_path: Path) -> None:
    write(tmp_path / "base.py", "model = dict(a=1)\nmodel = dict(b=2)\n")
    child = write(tmp_path / "child.py", "_base_ = ['base.py']\nmodel = dict(c=3)\n")
    assert re.search(r"base\.py assigns `model` at line 1 and again at line 2", refusal(child))


def test_a_model_that_builds_on_the_first_loses_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.py", "model = dict(a=1)\nmodel = dict(model, b=2)\n")
    assert load_mm_config(path)["model"] == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model = dict(\n", r"a\.py, line 1: this is not valid Python: '\(' was never closed"),
        ("lr = 1\nmodel = dict(a=size)\n", r"a\.py, line 2: .* raised NameError: .*'size'"),
        ("import no_such_package\n", r"a\.py, line 1: .* raised ModuleNotFoundError: No module"),
        ("raise ValueError('no')\n", r"a\.py, line 1: .* raised ValueError: no"),
        ("lr = 1\n", r"a\.py defines no dict called `model`, neither itself nor through `_base_`"),
        ("model = 'cmt'\n", r"a\.py defines no dict called `model`"),
        ("\n_base_ = ['x.py']\n", r"a\.py, line 2: `_base_` names a file: .*x\.py does not exist"),
        ("_base_ = 'x.yaml'\n", r"x\.yaml does not exist"),
        ("with read_base():\n    from .b import *\n", r"a\.py, line 1: .*`read_base\(\)` cannot"),
        ("\0", r"a\.py"),
    ],
)
def test_a_file_that_cannot_be_run_is_named_with_its_line(
    tmp_path: Path, text: str, message: str
) -> None:
    assert re.search(message, refusal(write(tmp_path / "a.py", text)))


def test_a_fault_inside_a_base_names_the_base(tmp_path: Path) -> None:
    write(tmp_path / "base.py", "\n\nmodel = dict(a=1 / 0)\n")
    child = write(tmp_path / "child.py", "_base_ = ['base.py']\n")
    assert re.search(r"base\.py, line 3: .* raised ZeroDivisionError", refusal(child))


def test_a_file_that_is_missing_or_not_python_is_refused(tmp_path: Path) -> None:
    assert re.search(r"a\.py does not exist", refusal(tmp_path / "a.py"))
    yaml = write(tmp_path / "a.yaml", "model: {}\n")
    assert re.search(r"a\.yaml: only configs that are Python files", refusal(yaml))


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_bytes(b"name = '\xff'\n")
    assert re.search(r"a\.py: this is not a Python text file", refusal(path))
