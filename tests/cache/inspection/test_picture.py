"""`feature-cache show --picture`: of a store in any state, where matplotlib is installed."""

import sys
from pathlib import Path

import pytest

from cache.__main__ import main
from tests.cache.conftest import fill, make_writer
from tests.pictures import count_of, decoded

SHARDS = 6  # of the store below: three of each variant


@pytest.mark.parametrize("shards", [0, 1, 3, SHARDS])
def test_a_store_in_any_state_can_be_plotted_and_shows_its_complete_shards(
    tmp_path: Path, shards: int
) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    fill(make_writer(tmp_path / "store", variants=2), shards=shards)
    picture = tmp_path / "store.png"
    assert main(["show", str(tmp_path / "store"), "--picture", str(picture)]) == 0

    pixels, blues = decoded(picture), matplotlib.colormaps["Blues"]
    complete, empty = count_of(pixels, blues(1 / 1.3)), count_of(pixels, blues(0.0))
    assert complete / (complete + empty) == pytest.approx(shards / SHARDS, abs=0.02)


def test_without_matplotlib_a_picture_is_one_message(
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["show", str(finished), "--picture", str(tmp_path / "store.png")]) == 1
    assert "a picture needs matplotlib" in capsys.readouterr().err


def test_a_picture_that_cannot_be_written_is_one_message(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    assert main(["show", str(finished), "--picture", str(tmp_path / "no/such/file.png")]) == 1
    assert "cannot be written: No such file" in capsys.readouterr().err
