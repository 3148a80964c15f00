"""The assembled detector: what goes in, what comes out, and what must not matter."""

from dataclasses import replace

import pytest
import torch

from shared.config.preset import Preset
from shared.data.batch import Batch
from shared.data.ground_truth import GroundTruth
from shared.errors import ConfigError
from shared.model.box_coder import decode_boxes
from shared.model.denoising import DenoisingQueries, make_denoising_queries
from shared.model.detector import CmtDetector, build_detector
from shared.model.losses import detection_losses, total_loss


@pytest.fixture
def detector(preset: Preset) -> CmtDetector:
    torch.manual_seed(0)
    return build_detector(preset)


@pytest.fixture
def denoising(preset: Preset, batch: Batch) -> DenoisingQueries:
    queries = make_denoising_queries(
        batch.boxes_lidar,
        batch.labels,
        preset.head,
        preset.grid.point_range_m,
        generator=torch.Generator().manual_seed(2),
    )
    assert queries is not None
    return queries


def test_outputs_are_per_layer_sample_and_query(detector: CmtDetector, batch: Batch) -> None:
    outputs = detector(batch)
    assert outputs.codes.shape == (2, 2, 5, 10)
    assert outputs.class_logits.shape == (2, 2, 5, 4)
    assert len(decode_boxes(outputs, detector.preset.head)) == 2


def test_gradients_reach_every_parameter(detector, batch: Batch, denoising) -> None:
    config = detector.preset.head
    outputs = detector(batch, denoising)
    truth = GroundTruth.of(batch.boxes_lidar, batch.labels)
    losses = detection_losses(outputs, truth, config, denoising=denoising)
    total_loss(losses).backward()
    silent = {
        name
        for name, parameter in detector.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().sum() > 0
    }
    # The queries start empty and fresh biases are zero, so the first self attention yields zero.
    first = "pts_bbox_head.transformer.decoder.layers.0."
    assert silent == {
        first + "attentions.0.attn.in_proj_weight",
        first + "attentions.0.attn.out_proj.weight",
        first + "norms.0.weight",
    }


def test_a_batch_without_ground_truth_trains(detector, batch: Batch, no_boxes, no_labels) -> None:
    config, range_m = detector.preset.head, detector.preset.grid.point_range_m
    queries = make_denoising_queries(
        no_boxes, no_labels, config, range_m, generator=torch.Generator()
    )
    losses = detection_losses(detector(batch, queries), GroundTruth.of(no_boxes, no_labels), config)
    total = total_loss(losses)
    total.backward()
    assert total.isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in detector.parameters())


def test_denoising_does_not_change_the_ordinary_queries(detector, batch, denoising) -> None:
    detector.eval()
    with torch.no_grad():
        plain, beside = detector(batch), detector(batch, denoising)
    # The mask adds scores of minus infinity, so only the order of summation differs.
    torch.testing.assert_close(beside.codes, plain.codes, rtol=1e-5, atol=1e-5)
    assert beside.denoising.codes.shape == (2, 2, 4, 10)


def test_samples_do_not_see_each_other(detector: CmtDetector, batch: Batch) -> None:
    detector.eval()
    swapped = Batch(
        tokens=batch.tokens[::-1],
        maps={name: values.flip(0) for name, values in batch.maps.items()},
        img_from_lidar=batch.img_from_lidar.flip(0),
        boxes_lidar=batch.boxes_lidar[::-1],
        labels=batch.labels[::-1],
    )
    with torch.no_grad():
        torch.testing.assert_close(
            detector(swapped).codes.flip(1), detector(batch).codes, rtol=1e-5, atol=1e-5
        )


def test_float16_maps_are_computed_in_float32(detector: CmtDetector, batch: Batch) -> None:
    detector.eval()
    wide = replace(batch, maps={name: values.float() for name, values in batch.maps.items()})
    with torch.no_grad():
        assert torch.equal(detector(batch).codes, detector(wide).codes)


def test_autocast_stays_close_to_float32(detector: CmtDetector, batch: Batch) -> None:
    detector.eval()
    with torch.no_grad():
        exact = detector(batch)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = detector(batch)
    assert rough.center_xy_m.dtype == torch.float32
    # bfloat16 has 8 bits; a wrong precision in the geometry would move boxes by metres.
    torch.testing.assert_close(rough.center_xy_m, exact.center_xy_m, rtol=0, atol=0.3)


def test_the_same_seed_builds_the_same_detector(detector, preset: Preset) -> None:
    torch.manual_seed(0)
    again = build_detector(preset).state_dict()
    for name, value in detector.state_dict().items():
        assert torch.equal(value, again[name]), name


def test_references_start_anywhere_in_the_range(detector: CmtDetector) -> None:
    weight = detector.pts_bbox_head.reference_points.weight
    assert (weight >= 0).all()
    assert (weight <= 1).all()


def test_a_missing_map_is_named(detector: CmtDetector, batch: Batch) -> None:
    rest = {name: values for name, values in batch.maps.items() if name != "lidar/stride16"}
    with pytest.raises(ConfigError, match=r"preset test reads lidar/stride16.*camera/stride16"):
        detector(replace(batch, maps=rest))


def test_a_map_of_another_preset_is_refused(detector: CmtDetector, batch: Batch) -> None:
    wrong = batch.maps | {"lidar/stride8": torch.zeros(2, 3, 9, 8)}
    with pytest.raises(ConfigError, match=r"lidar/stride8.*CYX = \(3, 8, 8\), got \(3, 9, 8\)"):
        detector(replace(batch, maps=wrong))
