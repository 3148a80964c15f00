"""Boxes and codes, by hand."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from shared.config.head_config import HeadConfig
from shared.model.box_coder import decode_boxes, decode_codes, encode_boxes
from shared.model.outputs import HeadOutputs


def test_a_code_is_written_in_the_official_order() -> None:
    box = torch.tensor([1.0, 2.0, 3.0, math.e, 1.0, math.e**2, math.pi / 2, 0.5, -0.5])
    code = torch.tensor([1.0, 2.0, 1.0, 0.0, 3.0, 2.0, 1.0, 0.0, 0.5, -0.5])
    torch.testing.assert_close(encode_boxes(box), code, rtol=1e-6, atol=1e-6)


def test_encoding_and_decoding_are_inverse(boxes: tuple[Tensor, Tensor]) -> None:
    every = torch.cat(boxes)
    torch.testing.assert_close(decode_codes(encode_boxes(every)), every)


def test_a_yaw_comes_back_within_half_a_turn() -> None:
    box = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 3 * math.pi / 2, 0.0, 0.0])
    assert decode_codes(encode_boxes(box))[6].item() == pytest.approx(-math.pi / 2, abs=1e-6)


def test_the_length_of_the_yaw_vector_does_not_matter() -> None:
    code = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.3, 0.4, 0.0, 0.0])
    assert decode_codes(5 * code)[6] == decode_codes(code)[6]


def test_an_unknown_velocity_stays_unknown() -> None:
    box = torch.tensor([1.0, 2.0, 3.0, 1.0, 1.0, 1.0, 0.0, math.nan, math.nan])
    code = encode_boxes(box)
    assert code[8:].isnan().all()
    assert code[:8].isfinite().all()


def test_branches_mean_what_the_box_order_says() -> None:
    """Upstream's `height` is the log of the length; its `dim` is log width, z, log height."""
    outputs = _outputs(torch.zeros(1, 1, 1, 3))
    (detected,) = decode_boxes(outputs, HeadConfig(classes=3, max_boxes=1))
    expected = torch.tensor([[1.0, 2.0, 0.5, math.e, 1.0, math.e**2, 0.0, 3.0, 4.0]])
    torch.testing.assert_close(detected.boxes_lidar, expected)


def test_the_best_pairs_of_query_and_class_are_returned_in_order() -> None:
    logits = torch.tensor([[[[0.0, 4.0, 3.0], [2.0, -1.0, -2.0]]]])
    (detected,) = decode_boxes(_outputs(logits), HeadConfig(classes=3, max_boxes=4))
    assert detected.queries.tolist() == [0, 0, 1, 0]
    assert detected.labels.tolist() == [1, 2, 0, 0]
    torch.testing.assert_close(detected.scores, torch.tensor([4.0, 3.0, 2.0, 0.0]).sigmoid())


def test_only_the_last_layer_is_read() -> None:
    logits = torch.zeros(2, 1, 1, 3)
    logits[0, ..., 2], logits[1, ..., 1] = 9.0, 1.0
    (detected,) = decode_boxes(_outputs(logits), HeadConfig(classes=3, max_boxes=1))
    assert detected.labels.tolist() == [1]


def test_centres_outside_the_kept_range_are_dropped_after_the_selection() -> None:
    outputs = _outputs(torch.tensor([[[[5.0, 0.0, 0.0], [1.0, 0.0, 0.0]]]]))
    far = outputs.center_xy_m.clone()
    far[..., 0, 0] = 61.3
    (detected,) = decode_boxes(
        replace(outputs, center_xy_m=far), HeadConfig(classes=3, max_boxes=2)
    )
    assert detected.queries.tolist() == [1]


def test_more_boxes_than_pairs_may_be_asked_for() -> None:
    (detected,) = decode_boxes(_outputs(torch.zeros(1, 1, 2, 3)), HeadConfig(classes=3))
    assert len(detected.scores) == 6


def _outputs(logits: Tensor) -> HeadOutputs:
    """Return outputs with these (L, B, Q, 3) logits and the same simple box everywhere."""
    lead = logits.shape[:-1]
    return HeadOutputs(
        center_xy_m=torch.tensor([1.0, 2.0]).expand(*lead, 2),
        log_length=torch.tensor([1.0]).expand(*lead, 1),
        log_width_z_log_height=torch.tensor([0.0, 0.5, 2.0]).expand(*lead, 3),
        yaw_sin_cos=torch.tensor([0.0, 1.0]).expand(*lead, 2),
        velocity_mps=torch.tensor([3.0, 4.0]).expand(*lead, 2),
        class_logits=logits,
    )
