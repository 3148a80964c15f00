"""The boxes of a batch in one tensor, with every sample's boxes in the order of their classes."""

import pytest
import torch

from shared.data.ground_truth import GroundTruth

BOXES = [torch.full((n, 9), float(n)) for n in (3, 0, 2)]
LABELS = [torch.tensor([7, 1, 7]), torch.tensor([], dtype=torch.int64), torch.tensor([4, 0])]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_rows_lead_to_the_boxes_of_a_sample_by_class(device: str) -> None:
    truth = GroundTruth.of(BOXES, LABELS).to(device)

    assert truth.box_counts == (3, 0, 2)
    assert truth.labels.tolist() == [7, 1, 7, 4, 0]
    assert truth.rows.tolist() == [[1, 0, 2], [0, 0, 0], [4, 3, 0]]
    assert truth.sample.tolist() == [0, 0, 0, 2, 2]
    assert truth.column.tolist() == [0, 1, 2, 0, 1]
    assert truth.by_class.tolist() == [1, 0, 2, 4, 3]
    assert torch.equal(truth.boxes_lidar.cpu(), torch.cat(BOXES))
    assert {truth.boxes_lidar.device.type, truth.rows.device.type} == {device}
    assert truth.by_class.device.type == "cpu"


def test_a_batch_without_boxes_has_empty_tensors() -> None:
    truth = GroundTruth.of(BOXES[1:2], LABELS[1:2])

    assert truth.rows.shape == (1, 0)
    assert truth.sample.shape == truth.column.shape == truth.by_class.shape == (0,)
    assert truth.by_class.dtype == torch.int64
