"""The synthetic nuScenes is reproducible, and only written where it belongs."""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shared.errors import ConfigError, DatasetError
from shared.synthetic_nuscenes import SyntheticConfig, write_synthetic_nuscenes
from shared.synthetic_nuscenes.__main__ import main
from shared.synthetic_nuscenes.sensors.record_sample import record_sample
from shared.synthetic_nuscenes.stamp import STAMP_FILE, UNFINISHED_FILE
from tests.shared.synthetic_nuscenes.small_sets import SMALLEST, contents


def test_the_same_seed_gives_the_same_bytes_with_any_number_of_processes(tmp_path: Path) -> None:
    two = replace(SMALLEST, scenes_train=2)
    write_synthetic_nuscenes(tmp_path / "here", two, workers=1)
    write_synthetic_nuscenes(tmp_path / "pool", two, workers=2)
    assert contents(tmp_path / "here") == contents(tmp_path / "pool")


def test_a_different_seed_gives_different_bytes_and_tokens(smallest: Path, tmp_path: Path) -> None:
    reseeded = replace(SMALLEST, seed=1)
    write_synthetic_nuscenes(tmp_path / "reseeded", reseeded, workers=1)
    first, second = contents(smallest), contents(tmp_path / "reseeded")
    assert first.keys() == second.keys()
    same = {name for name in first if first[name] == second[name]}
    assert same == {"maps/synthetic-ground.png", "v1.0-mini/visibility.json"}


def test_a_second_call_changes_nothing_and_says_so(
    smallest: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = {path: path.stat().st_mtime_ns for path in smallest.rglob("*")}
    with caplog.at_level("INFO"):
        write_synthetic_nuscenes(smallest, SMALLEST)
    assert "nothing to do" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in smallest.rglob("*")} == before


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DatasetError, match=r"not empty.*nothing was written.*new or empty"):
        write_synthetic_nuscenes(tmp_path, SMALLEST)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_set_of_a_different_seed_is_refused_naming_the_difference(
    smallest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(smallest)
    assert main([str(smallest), "--seed", "7"]) == 1
    message = capsys.readouterr().err
    assert "seed 0 there, 7 requested" in message
    assert "Choose another folder, or remove this one" in message
    assert contents(smallest) == before


def test_an_interrupted_set_is_recognised_and_written_again(
    smallest: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []

    def die_at_the_second(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return record_sample(*arguments)

    out = tmp_path / "cut"
    two = replace(SMALLEST, scenes_train=2)
    with monkeypatch.context() as patch:
        patch.setattr("shared.synthetic_nuscenes.write.record_sample", die_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            write_synthetic_nuscenes(out, two, workers=1)
    assert (out / UNFINISHED_FILE).exists()
    assert not (out / STAMP_FILE).exists()
    with pytest.raises(DatasetError, match="scenes_train 2 there, 1 requested"):
        write_synthetic_nuscenes(out, SMALLEST)
    write_synthetic_nuscenes(out, two, workers=1)
    assert "unfinished" in caplog.text
    assert (out / STAMP_FILE).exists()
    assert not (out / UNFINISHED_FILE).exists()


def test_a_set_that_lost_files_is_refused_with_the_remedy(smallest: Path) -> None:
    shutil.rmtree(smallest / "samples" / "CAM_BACK")
    with pytest.raises(DatasetError, match=r"was complete with.*Remove the folder and run again"):
        write_synthetic_nuscenes(smallest, SMALLEST)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("scenes_train", 9, r"scenes_train is 9; it must be in \[1, 8\]"),
        ("sweep_rate_hz", 5, "multiple of the keyframe rate, 2 Hz"),
        ("render_stride_px", 3, "must divide 1600 and 900"),
    ],
)
def test_a_number_out_of_range_is_refused(field: str, value: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SyntheticConfig(**{field: value})


def test_the_command_line_options_are_these(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    sizes = {"--scenes-train", "--scenes-val", "--samples-per-scene"}
    assert options - {"--help"} == sizes | {
        "--seed",
        "--sweep-rate-hz",
        "--azimuth-steps",
        "--workers",
    }
