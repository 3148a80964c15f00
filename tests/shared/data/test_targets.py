"""Training sees the boxes that official CMT trains on, by one case for each condition."""

import numpy as np
import pytest

from shared.config.preset import PointGrid
from shared.data.features import Annotations
from shared.data.targets import trainable_annotations

GRID = PointGrid(
    point_range_m=(-16.0, -8.0, -5.0, 16.0, 8.0, 3.0),
    voxel_m=(1.0, 0.5, 0.2),
    sparse_shape=(41, 32, 32),
)
BOX = (1.0, 2.0, -1.0, 4.0, 2.0, 1.5, 0.5, 3.0, -4.0)
X, Y, Z, YAW, VX, VY = 0, 1, 2, 6, 7, 8
UNKNOWN = {VX: np.nan, VY: np.nan}
TURN = 2 * np.pi


def annotated(values: dict[int, float], label: int = 3, points: int = 1) -> Annotations:
    """Return a box of `BOX` with some of its codes changed, after one that is trained on."""
    boxes = np.array([BOX, BOX], np.float32)
    for code, value in values.items():
        boxes[1, code] = value
    return Annotations(
        boxes_lidar=boxes,
        labels=np.array([7, label]),
        lidar_points=np.array([9, points]),
        radar_points=np.array([5, 0]),
    )


@pytest.mark.parametrize(
    ("annotations", "is_trained_on"),
    [
        (annotated({}), True),
        (annotated({}, points=0), False),
        (annotated({}, label=-1), False),
        (annotated({}, label=0), True),
        (annotated({X: 16.0}), False),
        (annotated({X: 15.99}), True),
        (annotated({X: -16.0}), False),
        (annotated({X: -15.99}), True),
        (annotated({Y: 8.0}), False),
        (annotated({Y: 7.99}), True),
        (annotated({Y: -8.0}), False),
        (annotated({Y: -7.99}), True),
        (annotated({Z: 99.0}), True),  # z is not tested
        (annotated(UNKNOWN), True),
    ],
)
def test_a_box_needs_points_a_class_and_a_centre_within_the_range(
    annotations: Annotations, is_trained_on: bool
) -> None:
    ours = trainable_annotations(annotations, GRID)

    rows = [0, 1] if is_trained_on else [0]
    expected = np.nan_to_num(annotations.boxes_lidar[rows])
    np.testing.assert_allclose(ours.boxes_lidar, expected, rtol=0, atol=1e-6)
    for field in ("labels", "lidar_points", "radar_points"):
        assert getattr(ours, field).tolist() == getattr(annotations, field)[rows].tolist()


def test_an_unknown_velocity_becomes_zero_and_the_source_stays_as_it_is() -> None:
    annotations = annotated(UNKNOWN)
    ours = trainable_annotations(annotations, GRID)
    assert ours.boxes_lidar[:, VX:].tolist() == [[3.0, -4.0], [0.0, 0.0]]
    assert np.isnan(annotations.boxes_lidar[1, VX:]).all()


@pytest.mark.parametrize("yaw", [0.5, 3.0, -3.0, 0.5 + TURN, -0.5 - TURN, 3.2, -3.2, 3 + 2 * TURN])
def test_yaws_are_wrapped_to_half_a_turn_and_point_where_they_did(yaw: float) -> None:
    ours = trainable_annotations(annotated({YAW: yaw}), GRID).boxes_lidar[1, YAW]
    assert -np.pi <= ours < np.pi
    np.testing.assert_allclose([np.cos(ours), np.sin(ours)], [np.cos(yaw), np.sin(yaw)], atol=1e-6)
