"""The commands take the current folder as a store if it is empty, and as nothing else."""

from pathlib import Path

import pytest

from cache.__main__ import main as feature_cache
from stage1_extract.__main__ import main as extract_features


def test_a_store_in_the_current_folder(
    synthetic_root: Path,
    tiny_store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    where = ["--nuscenes", str(synthetic_root), "--version", "v1.0-mini", "--split", "mini_train"]
    monkeypatch.chdir(tmp_path)

    assert extract_features(["tiny", *where, "--store", "."]) == 0
    assert feature_cache(["verify", "."]) == 0
    assert feature_cache(["diff", ".", str(tiny_store)]) == 0
    capsys.readouterr()
    for store in (".", str(tiny_store)):
        assert feature_cache(["digest", store]) == 0
    first, second = capsys.readouterr().out.split()
    assert first == second


def test_a_current_folder_with_something_in_it_is_refused(
    synthetic_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    where = ["--nuscenes", str(synthetic_root), "--version", "v1.0-mini", "--split", "mini_train"]
    (tmp_path / "thesis.txt").write_text("years of work")
    monkeypatch.chdir(tmp_path)

    assert extract_features(["tiny", *where, "--store", "."]) == 1

    said = capsys.readouterr().err
    assert (
        ". is not empty and not a feature store (thesis.txt is there); choose a different" in said
    )
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
