"""Only NumPy arrays and built-in containers are unpickled; nothing else is even called."""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.errors import DatasetError
from stage1_extract.nuscenes.safe_pickle import load_pickle

HARMLESS = {
    "array": np.arange(6.0).reshape(2, 3),
    "names": np.array(["car", "animal"]),
    "valid": np.array([True, False]),
    "scalar": np.int64(3),
    "real": np.float32(0.5),
    "token": "abc",
    "nested": [(1, None), {"time": 1.5e9}, b"\x00\xff"],
    "empty": np.zeros((0, 9)),
}


class Evil:
    """Makes a pickle that calls `function(*arguments)` when it is loaded."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_containers_come_back_in_every_protocol(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "infos.pkl"
    path.write_bytes(pickle.dumps(HARMLESS, protocol=protocol))
    loaded = load_pickle(path)
    assert loaded.keys() == HARMLESS.keys()
    for key, value in HARMLESS.items():
        np.testing.assert_equal(loaded[key], value)


@pytest.mark.parametrize("module", ["numpy.core", "numpy._core"])
def test_files_of_numpy_1_and_2_are_read(tmp_path: Path, module: str) -> None:
    path = tmp_path / "infos.pkl"
    text = pickle.dumps(HARMLESS["array"], protocol=0)
    names = {b"numpy.core.multiarray", b"numpy._core.multiarray"}
    for name in names:
        text = text.replace(name, f"{module}.multiarray".encode())
    path.write_bytes(text)
    np.testing.assert_array_equal(load_pickle(path), HARMLESS["array"])


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_code_is_refused_by_name_and_not_run(tmp_path: Path, protocol: int) -> None:
    trace = tmp_path / "trace"
    path = tmp_path / "infos.pkl"
    evil = [np.zeros(3), Evil(os.system, f"touch {trace}")]
    path.write_bytes(pickle.dumps({"infos": evil}, protocol=protocol))
    with pytest.raises(DatasetError, match=r"infos\.pkl is not loaded: it asks for \w+\.system"):
        load_pickle(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("function", "name"), [(eval, "eval"), (getattr, "getattr"), (np.load, "load"), (open, "open")]
)
def test_functions_of_builtins_and_numpy_are_refused_too(
    tmp_path: Path, function: Any, name: str
) -> None:
    path = tmp_path / "infos.pkl"
    path.write_bytes(pickle.dumps(Evil(function, "1")))
    with pytest.raises(DatasetError, match=rf"it asks for [\w.]*\.{name}, and"):
        load_pickle(path)


def test_bytes_in_a_different_encoding_are_refused(tmp_path: Path) -> None:
    import _codecs

    path = tmp_path / "infos.pkl"
    path.write_bytes(pickle.dumps(Evil(_codecs.encode, "abc", "zip")))
    with pytest.raises(DatasetError, match="'zip', not latin1"):
        load_pickle(path)


@pytest.mark.parametrize("end", [0, 1, 20, -1])
def test_a_truncated_pickle_is_an_error_that_names_it(tmp_path: Path, end: int) -> None:
    path = tmp_path / "infos.pkl"
    path.write_bytes(pickle.dumps(HARMLESS)[:end])
    with pytest.raises(DatasetError, match=r"infos\.pkl \(\d+ bytes\) is not a complete pickle"):
        load_pickle(path)


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"none\.pkl does not exist"):
        load_pickle(tmp_path / "none.pkl")
