"""Boxes that only one side has cost something, whatever their scores."""

import torch

from shared.model.box_coder import Detections
from stage1_extract.parity.leg_differences import _box_differences


def detections(*queries: int) -> Detections:
    count = len(queries)
    return Detections(
        boxes_lidar=torch.zeros(count, 9),
        scores=torch.full((count,), 0.5),
        labels=torch.zeros(count, dtype=torch.int64),
        queries=torch.tensor(queries, dtype=torch.int64),
    )


def differences(live: Detections, leg: Detections) -> dict[str, float]:
    return {item.quantity: item.value for item in _box_differences([live], [leg])}


def unpaired(live: Detections, leg: Detections) -> float:
    return differences(live, leg)["decoded boxes without a partner"]


def test_a_box_without_a_partner_is_a_share_of_the_longer_list() -> None:
    assert unpaired(detections(1, 2, 3, 4), detections(1, 2, 3)) == 0.25
    assert unpaired(detections(1, 2), detections(2, 1, 5, 7)) == 0.5


def test_lists_without_a_common_box_are_unpaired_altogether() -> None:
    assert unpaired(detections(1, 2), detections(3, 4)) == 1.0


def test_equal_lists_differ_in_nothing() -> None:
    assert set(differences(detections(4, 2), detections(2, 4)).values()) == {0.0}
    assert set(differences(detections(), detections()).values()) == {0.0}
