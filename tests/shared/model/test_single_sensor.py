"""A detector of one sensor is the fusion detector without the parts of the other sensor."""

from dataclasses import replace

import pytest
import torch

from shared.config.preset import Preset
from shared.data.batch import Batch
from shared.data.ground_truth import GroundTruth
from shared.errors import ConfigError
from shared.model.denoising import make_denoising_queries
from shared.model.detector import CmtDetector, build_detector
from shared.model.losses import detection_losses, total_loss

SENSORS = ("camera", "lidar")


def without(preset: Preset, sensor: str) -> Preset:
    return replace(preset, **{sensor: None})


def build(preset: Preset) -> CmtDetector:
    torch.manual_seed(0)
    return build_detector(preset).eval()


def blind(batch: Batch, sensor: str) -> Batch:
    """Return the batch as a store without this sensor would give it."""
    maps = {name: values for name, values in batch.maps.items() if not name.startswith(sensor)}
    matrices = batch.img_from_lidar[:, :0] if sensor == "camera" else batch.img_from_lidar
    return replace(batch, maps=maps, img_from_lidar=matrices)


def test_the_parts_are_those_of_its_sensor(preset: Preset) -> None:
    assert build(preset).parts == ("img_neck", "pts_neck", "pts_bbox_head")
    assert build(without(preset, "camera")).parts == ("pts_neck", "pts_bbox_head")
    assert build(without(preset, "lidar")).parts == ("img_neck", "pts_bbox_head")


@pytest.mark.parametrize("sensor", SENSORS)
def test_it_trains_without_the_other_sensor(preset: Preset, batch: Batch, sensor: str) -> None:
    detector = build(without(preset, sensor))
    rest = blind(batch, sensor)
    queries = make_denoising_queries(
        rest.boxes_lidar,
        rest.labels,
        preset.head,
        preset.grid.point_range_m,
        generator=torch.Generator().manual_seed(2),
    )

    outputs = detector(rest, queries)
    losses = detection_losses(
        outputs,
        GroundTruth.of(rest.boxes_lidar, rest.labels),
        preset.head,
        denoising=queries,
    )
    total_loss(losses).backward()

    assert outputs.codes.shape == (2, 2, 5, 10)
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("sensor", SENSORS)
def test_the_maps_of_the_other_sensor_do_not_matter(
    preset: Preset, batch: Batch, sensor: str
) -> None:
    detector = build(without(preset, sensor))
    with torch.no_grad():
        assert torch.equal(detector(batch).codes, detector(blind(batch, sensor)).codes)


@pytest.mark.parametrize("sensor", SENSORS)
def test_its_maps_are_needed(preset: Preset, batch: Batch, sensor: str) -> None:
    (own,) = set(SENSORS) - {sensor}
    with pytest.raises(ConfigError, match=f"reads {own}/stride"):
        build(without(preset, sensor))(blind(batch, own))


def test_a_task_kernel_of_three_sees_the_neighbouring_queries(preset: Preset, batch: Batch) -> None:
    wide = replace(preset, camera=None, head=replace(preset.head, task_kernel=3))
    heads = build(wide).pts_bbox_head.task_heads[0]
    decoded = torch.randn(2, 1, 5, wide.head.width, generator=torch.Generator().manual_seed(0))
    moved = decoded.clone()
    moved[:, :, 0] += 1.0

    with torch.no_grad():
        before, after = heads(decoded)["velocity_mps"], heads(moved)["velocity_mps"]

    changed = (before != after).any(dim=-1).any(dim=0).squeeze(0)  # (Q,)
    # Two convolutions with kernels of three: query 0 reaches 1, and through it 2.
    assert changed.tolist() == [True, True, True, False, False]


def test_no_sensor_at_all_is_refused(preset: Preset) -> None:
    with pytest.raises(ConfigError, match="neither a camera nor a LiDAR branch"):
        replace(preset, camera=None, lidar=None)


def test_an_even_task_kernel_is_refused(preset: Preset) -> None:
    with pytest.raises(ConfigError, match="task_kernel 2 is even"):
        replace(preset.head, task_kernel=2)
