"""LiDAR and cameras agree with the annotated boxes."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from shared.config.classes import CAMERAS, CLASS_NAMES, LIDAR
from shared.synthetic_nuscenes.world.object_classes import OBJECT_CLASSES
from tests.shared.synthetic_nuscenes.small_sets import cloud


def test_point_counts_are_the_devkits(tables: Any) -> None:
    from nuscenes.utils.geometry_utils import points_in_box

    total = 0
    for sample in tables.sample:
        _, boxes, _ = tables.get_sample_data(sample["data"][LIDAR])
        points = cloud(tables, sample)[:, :3].T
        for box in boxes:
            annotated = tables.get("sample_annotation", box.token)["num_lidar_pts"]
            assert points_in_box(box, points).sum() == annotated
            total += annotated
    assert total > 1000


def test_intensity_tells_the_class(tables: Any) -> None:
    from nuscenes.eval.detection.utils import category_to_detection_name
    from nuscenes.utils.geometry_utils import points_in_box

    expected = {kind.name: kind.reflectivity for kind in OBJECT_CLASSES}
    checked = set()
    for sample in tables.sample:
        _, boxes, _ = tables.get_sample_data(sample["data"][LIDAR])
        points = cloud(tables, sample)
        assert set(np.unique(points[:, 4])) <= set(range(32))
        for box in boxes:
            inside = points[points_in_box(box, points[:, :3].T, wlh_factor=1.0)]
            inside = inside[inside[:, 2] > box.bottom_corners()[2].mean() + 0.1]  # no ground
            if len(inside) >= 5:
                name = category_to_detection_name(box.name)
                assert np.median(inside[:, 3]) == pytest.approx(expected[name], abs=10)
                checked.add(name)
    assert checked == set(CLASS_NAMES)


def test_no_point_lies_behind_a_box(tables: Any) -> None:
    """Steps along every ray instead of intersecting it, so that it shares no code."""
    from nuscenes.utils.geometry_utils import points_in_box

    sample = tables.sample[2]
    _, boxes, _ = tables.get_sample_data(sample["data"][LIDAR])
    points = cloud(tables, sample)[:, :3].T
    steps = np.linspace(0.0, 0.97, 300)
    along = (points[:, :, None] * steps).reshape(3, -1)
    for box in boxes:
        # The core of the box: the body is 5 cm smaller than the annotation on each side.
        assert not points_in_box(box, along, wlh_factor=0.7).any()


def pixels_within(image: np.ndarray, corners_px: np.ndarray) -> np.ndarray:
    """Return the (N, 3) pixels inside four faces of a projected box with these (2, 8) corners."""
    mask = Image.new("L", (1600, 900))
    for face in ((0, 1, 2, 3), (4, 5, 6, 7), (0, 1, 5, 4), (2, 3, 7, 6)):
        ImageDraw.Draw(mask).polygon([tuple(corners_px[:, corner]) for corner in face], fill=1)
    return image[np.asarray(mask) == 1].astype(float)


def classes_of_colours(pixels: np.ndarray) -> list[str]:
    """Return the nearest class by the ratio of the channels, which shading does not change."""
    paints = np.array([kind.colour_rgb for kind in OBJECT_CLASSES], dtype=float)
    paints /= paints.sum(axis=1, keepdims=True)
    ratios = pixels / pixels.sum(axis=1, keepdims=True)
    nearest = ((ratios[:, None] - paints) ** 2).sum(-1).argmin(-1)
    return [OBJECT_CLASSES[index].name for index in nearest]


def test_a_fully_visible_object_shows_the_colour_of_its_class(tables: Any) -> None:
    from nuscenes.eval.detection.utils import category_to_detection_name
    from nuscenes.utils.geometry_utils import BoxVisibility, view_points

    right, wrong = Counter[str](), Counter[str]()
    readings = [sample["data"][channel] for sample in tables.sample for channel in CAMERAS]
    for token in readings:
        path, boxes, intrinsic = tables.get_sample_data(token, box_vis_level=BoxVisibility.ALL)
        with Image.open(path) as file:
            image = np.asarray(file)
        for box in boxes:
            level = tables.get("sample_annotation", box.token)["visibility_token"]
            moves = (
                np.linalg.norm(tables.box_velocity(box.token)) > 0
            )  # exposed a little earlier than annotated
            if level != "4" or moves or box.center[2] > 25:
                continue
            # Shrunk, so that background and JPEG artefacts at the edge do not count.
            corners_px = view_points(box.corners(wlh_factor=0.8), intrinsic, normalize=True)[:2]
            pixels = pixels_within(image, corners_px)
            pixels = pixels[np.ptp(pixels, axis=1) > 40]  # not the grey of glass, tyres, stripes
            name = category_to_detection_name(box.name)
            share = np.mean([nearest == name for nearest in classes_of_colours(pixels)])
            (right if share > 0.6 else wrong)[name] += 1
    assert sum(right.values()) > 20
    assert sum(wrong.values()) <= 0.1 * sum(right.values()), (right, wrong)


def test_all_visibility_levels_occur_and_the_hidden_hold_few_points(tables: Any) -> None:
    shares = {level: [0, 0] for level in "1234"}
    for row in tables.sample_annotation:
        shares[row["visibility_token"]][0] += 1
        shares[row["visibility_token"]][1] += row["num_lidar_pts"]
    assert all(count for count, _ in shares.values())
    assert shares["1"][1] / shares["1"][0] < 0.2 * shares["4"][1] / shares["4"][0]
