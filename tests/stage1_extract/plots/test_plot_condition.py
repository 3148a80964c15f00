"""A condition's picture shows the recorded frame above and what the condition makes of it below."""

from pathlib import Path

import numpy as np
import pytest

from stage1_extract.conditions.apply_condition import changes_of
from stage1_extract.conditions.catalogue.condition_catalogue import load_condition
from stage1_extract.nuscenes.nuscenes_tables import read_tables
from stage1_extract.plot_samples import main as plot_samples
from stage1_extract.plots.plot_condition import describe_changes, plot_condition
from tests.pictures import decoded


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("beams-4-even", "LIDAR_TOP computed"),
        ("lidar-drop", "LIDAR_TOP absent"),
        ("dark-1", "all cameras computed"),
        ("missing-cam-back", "CAM_BACK absent"),
        ("extrinsics-all", "calibration of the cameras changed"),
    ],
)
def test_a_line_says_what_happens_to_which_sensor(
    name: str, text: str, synthetic_root: Path
) -> None:
    frames = read_tables(synthetic_root, "v1.0-mini", "mini_val")
    assert describe_changes(changes_of(load_condition(name), frames)[0]) == text


def test_a_stuck_sensor_and_a_frame_that_is_left_alone_are_called_so(synthetic_root: Path) -> None:
    frames = read_tables(synthetic_root, "v1.0-mini", "mini_val")
    first, second, _ = changes_of(load_condition("lidar-stuck-90"), frames)
    assert describe_changes(first) == "no sensor of this frame is touched"
    assert describe_changes(second) == f"LIDAR_TOP stuck at {frames[0].token}"


def test_images_differ_below_where_the_condition_takes_them_away(
    synthetic_root: Path, tmp_path: Path
) -> None:
    frames = read_tables(synthetic_root, "v1.0-mini", "mini_val")
    changes = changes_of(load_condition("cameras-drop"), frames)[0]
    plot_condition(changes, {frame.token: frame for frame in frames}, tmp_path / "a.png")
    picture = decoded(tmp_path / "a.png").astype(int)
    height = len(picture) // 2
    images = slice(0, int(0.68 * picture.shape[1]))
    above, below = picture[:height, images], picture[height : 2 * height, images]
    is_black = [(half == 0).all(axis=2).mean() for half in (above, below)]
    assert is_black[0] < 0.2
    assert is_black[1] > 0.5


def test_the_command_writes_the_picture_of_a_named_condition(
    tiny_val_store: Path, synthetic_root: Path, tmp_path: Path
) -> None:
    where = ["--nuscenes", str(synthetic_root), "--out", str(tmp_path / "out"), "--samples", "1"]
    assert plot_samples([str(tiny_val_store), *where, "--condition", "beams-8-even"]) == 0
    (picture,) = (tmp_path / "out").glob("*_beams-8-even.png")
    assert np.ptp(decoded(picture)) > 200


def test_an_unknown_condition_ends_the_command_before_any_work(
    tiny_val_store: Path, synthetic_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--nuscenes", str(synthetic_root), "--out", str(tmp_path / "out")]
    assert plot_samples([str(tiny_val_store), *where, "--condition", "beams-5-even"]) == 1
    assert "unknown condition 'beams-5-even'; did you mean beams-" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
