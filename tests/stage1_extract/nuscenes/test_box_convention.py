"""Old and new mmdet3d boxes are told apart by the boxes themselves, or the user is asked."""

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.errors import DatasetError
from stage1_extract.nuscenes.annotations import BoxTable
from stage1_extract.nuscenes.box_convention import NEW, OLD, recognise, to_new


def table(rows: list[list[float]], names: list[str]) -> BoxTable:
    return BoxTable(
        boxes_lidar=np.array(rows, np.float64).reshape(len(names), 9),
        names=tuple(names),
        lidar_points=np.zeros(len(names), np.int64),
        radar_points=np.zeros(len(names), np.int64),
    )


def car(yaw_rad: float, *, speed_m_s: float = 0.0, course_rad: float | None = None) -> list[float]:
    course = yaw_rad if course_rad is None else course_rad
    velocity = [speed_m_s * np.cos(course), speed_m_s * np.sin(course)]
    return [1, 2, 3, 4.5, 2, 1.5, yaw_rad, *velocity]


def old(row: list[float]) -> list[float]:
    x, y, z, length, width, height, yaw_rad, *velocity = row
    return [x, y, z, width, length, height, -yaw_rad - np.pi / 2, *velocity]


FLEET = [car(yaw, speed_m_s=5) for yaw in (1.5, 1.6, -1.5, 0.1)]


def test_new_boxes_are_recognised_and_kept() -> None:
    boxes = table(FLEET, ["car"] * 4)
    assert recognise([boxes], "infos.pkl") == NEW
    assert to_new(boxes, NEW) is boxes


def test_old_boxes_are_recognised_and_converted() -> None:
    boxes = table([old(row) for row in FLEET], ["car"] * 4)
    assert recognise([boxes], "infos.pkl") == OLD
    np.testing.assert_allclose(to_new(boxes, OLD).boxes_lidar, FLEET, rtol=0, atol=1e-15)


def test_an_old_box_is_converted_as_by_hand() -> None:
    """Width 2, length 4, yaw' = -90 degrees: the heading is 0, along +x."""
    boxes = to_new(table([[0, 0, 0, 2, 4, 1, -np.pi / 2, 0, 0]], ["car"]), OLD)
    assert boxes.boxes_lidar.tolist() == [[0, 0, 0, 4, 2, 1, 0, 0, 0]]


def test_barriers_cones_and_pedestrians_do_not_count() -> None:
    barrier = [0, 0, 0, 0.5, 2.5, 1, 0, 0, 0]
    names = ["barrier", "traffic_cone", "pedestrian", "animal", "car", "car"]
    with pytest.raises(
        DatasetError, match=r"infos\.pkl.*from 2 vehicles.*at least 3.*mmdet3d<1\.0"
    ):
        recognise([table([barrier] * 4 + FLEET[:2], names)], "infos.pkl")


def test_no_boxes_at_all_are_asked_about() -> None:
    with pytest.raises(DatasetError, match=r"from 0 vehicles.*say which with --box-convention"):
        recognise([table([], []), table([], [])], "infos.pkl")


def test_mixed_sizes_are_asked_about() -> None:
    mixed = table([*FLEET[:2], *(old(row) for row in FLEET[2:])], ["car"] * 4)
    with pytest.raises(DatasetError, match=r"of 4 vehicles 50% have the larger size first; say"):
        recognise([mixed], "infos.pkl")


@pytest.mark.parametrize("sizes", [NEW, OLD])
def test_sizes_and_headings_of_different_conventions_are_refused(sizes: str) -> None:
    rows = []
    for row in FLEET:
        wrong = row if sizes == NEW else old(row)
        wrong = list(wrong)
        wrong[6] = old(row)[6] if sizes == NEW else row[6]
        rows.append(wrong)
    with pytest.raises(DatasetError, match=f"sizes are those of {sizes}.*half converted"):
        recognise([table(rows, ["car"] * 4)], "infos.pkl")


@pytest.mark.parametrize("velocity", [0.5, np.nan])
def test_slow_and_unknown_velocities_do_not_contradict(velocity: float) -> None:
    rows: NDArray[np.float64] = np.array([car(1.5, speed_m_s=5, course_rad=0.0)] * 3)
    rows[:, 7:] = velocity
    assert recognise([table(rows.tolist(), ["truck"] * 3)], "infos.pkl") == NEW
