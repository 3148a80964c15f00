"""Options of a cluster that cannot be used are refused before anything is created."""

import subprocess
import sys
from pathlib import Path

import pytest

from stage1_extract.__main__ import main as extract_features

WHERE = ["tiny", "--nuscenes", "here", "--version", "v1.0-mini", "--split", "mini_train"]


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (["--gpus-per-worker", "1"], "--gpus-per-worker: only together with --ray"),
        (["--cpus-per-worker", "2", "--ray-workers", "3"], "--cpus-per-worker, --ray-workers: onl"),
        (["--ray", "auto", "--slice", "1/2"], "leave out --slice"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    named: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "new.zarr"
    assert extract_features([*WHERE, "--store", str(store), *named]) == 1
    assert message in capsys.readouterr().err
    assert not store.exists()


def test_without_ray_the_message_says_how_to_install_it(
    synthetic_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # it cannot be imported
    store = tmp_path / "new.zarr"
    command = [*WHERE, "--store", str(store), "--ray"]
    command[command.index("here")] = str(synthetic_root)
    assert extract_features(command) == 1
    assert "pip install 'frozen-cmt[extract,ray]'" in capsys.readouterr().err
    assert not store.exists()


@pytest.mark.parametrize("address", ["auto", "127.0.0.1:9", "127.0.0.1:nine", "ray://here:9"])
def test_an_address_without_a_cluster_is_refused(
    address: str,
    synthetic_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'frozen-cmt[ray]'")

    def refuse(**_: object) -> None:
        assert address == "auto"  # the others are not asked of Ray, which would try for minutes
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr(ray, "init", refuse)
    store = tmp_path / "new.zarr"
    command = [*WHERE, "--store", str(store), "--ray", address]
    command[command.index("here")] = str(synthetic_root)
    assert extract_features(command) == 1
    message = capsys.readouterr().err
    assert f"no cluster at {address} (" in message
    assert "ray start --head" in message
    assert not store.exists()


def test_an_extraction_without_a_cluster_imports_no_ray(synthetic_root: Path) -> None:
    code = f"""
import sys
from stage1_extract.__main__ import main
where = ["--nuscenes", {str(synthetic_root)!r}, "--version", "v1.0-mini", "--split", "none"]
assert main(["tiny", *where, "--store", "nowhere.zarr"]) == 1
assert "ray" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=120)
