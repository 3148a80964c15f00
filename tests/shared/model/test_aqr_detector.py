"""A detector with AQR: at first the detector without it, then what the weights make of it."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from shared.config.aqr_config import AqrConfig
from shared.config.preset import Preset
from shared.data.batch import Batch
from shared.errors import ConfigError
from shared.model.denoising import DenoisingQueries, make_denoising_queries
from shared.model.detector import CmtDetector, build_detector
from shared.model.outputs import HeadOutputs

CONFIGS = [
    AqrConfig(heads=2, ffn_width=8, camera_window=3),
    AqrConfig(heads=2, ffn_width=8, camera_window=3, attention="dense"),
    AqrConfig(heads=2, ffn_width=8, camera_window=3, effect="modulation"),
]
IDS = ["bias", "dense bias", "modulation"]


def built(preset: Preset, aqr: AqrConfig | None) -> CmtDetector:
    torch.manual_seed(0)
    return build_detector(preset, aqr=aqr).eval()


def denoising(batch: Batch, preset: Preset) -> DenoisingQueries | None:
    return make_denoising_queries(
        batch.boxes_lidar,
        batch.labels,
        preset.head,
        preset.grid.point_range_m,
        generator=torch.Generator().manual_seed(3),
    )


def close(ours: HeadOutputs, theirs: HeadOutputs) -> None:
    for name in ("codes", "class_logits"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name))


@pytest.mark.parametrize("aqr", CONFIGS, ids=IDS)
def test_at_the_start_a_detector_with_aqr_gives_what_it_gives_without(
    preset: Preset, batch: Batch, aqr: AqrConfig
) -> None:
    plain, routed = built(preset, None), built(preset, aqr)
    for queries in (None, denoising(batch, preset)):
        expected, found = plain(batch, queries), routed(batch, queries)
        close(found, expected)
        assert found.sensor_weights is not None
        assert (found.sensor_weights == 0).all()
        assert (found.denoising is None) == (queries is None)
        if found.denoising is not None and expected.denoising is not None:
            close(found.denoising, expected.denoising)


def test_everything_but_aqr_starts_with_the_weights_it_has_without(preset: Preset) -> None:
    plain, routed = built(preset, None).state_dict(), built(preset, CONFIGS[0]).state_dict()
    assert plain.keys() < routed.keys()
    assert all(torch.equal(routed[name], one) for name, one in plain.items())
    new = {name.split(".")[1] for name in routed.keys() - plain.keys()}
    assert new == {"aqr_weight_generator", "attention_bias_generator"}


def trusting(preset: Preset, aqr: AqrConfig, weights: tuple[float, float]) -> CmtDetector:
    """Return a detector whose weights are these for every query, where there is anything."""
    detector = built(preset, aqr)
    generator = detector.pts_bbox_head.aqr_weight_generator
    assert generator is not None
    with torch.no_grad():
        generator.weight_predictor.bias.copy_(torch.tensor(weights).atanh())
    return detector


def sensitivity(detector: CmtDetector, batch: Batch, sensor: str) -> float:
    """Return how much the outputs depend on the maps of a sensor."""
    maps = {name: one.float().requires_grad_() for name, one in batch.maps.items()}
    outputs = detector(replace(batch, maps=maps))
    outputs.class_logits.square().sum().backward()
    found = [one.grad for name, one in maps.items() if name.startswith(sensor)]
    return float(sum(grad.square().sum() for grad in found if grad is not None))


@pytest.mark.parametrize("effect", ["bias", "modulation"])
def test_trust_in_a_sensor_makes_the_boxes_depend_on_it(
    preset: Preset, batch: Batch, effect: str
) -> None:
    aqr = AqrConfig(
        heads=2, ffn_width=8, bev_window=31, camera_window=31, effect=effect, splat_cells=4.0
    )  # type: ignore[arg-type]
    lidar, cameras = (trusting(preset, aqr, one) for one in ((0.99, -0.99), (-0.99, 0.99)))
    assert sensitivity(lidar, batch, "lidar") > sensitivity(cameras, batch, "lidar")
    assert sensitivity(cameras, batch, "camera") > sensitivity(lidar, batch, "camera")


@pytest.mark.parametrize("aqr", CONFIGS, ids=IDS)
def test_denoising_queries_do_not_change_the_others(
    preset: Preset, batch: Batch, aqr: AqrConfig
) -> None:
    """They stand near the true boxes: whatever they left would tell where these are."""
    detector = trusting(preset, aqr, (0.5, -0.5))
    alone, beside = detector(batch), detector(batch, denoising(batch, preset))
    close(beside, alone)
    torch.testing.assert_close(beside.sensor_weights, alone.sensor_weights)


@pytest.mark.parametrize("aqr", CONFIGS, ids=IDS)
def test_aqr_learns_from_the_boxes(preset: Preset, batch: Batch, aqr: AqrConfig) -> None:
    detector = trusting(preset, aqr, (0.3, -0.3)).train()
    detector(batch, denoising(batch, preset)).codes.sum().backward()
    grads: dict[str, Tensor | None] = {
        name: one.grad
        for name, one in detector.pts_bbox_head.named_parameters()
        if name.startswith(("aqr_weight_generator", "attention_bias_generator"))
    }
    for name, grad in grads.items():
        assert grad is not None, name
        assert grad.isfinite().all(), name
    assert (grads["aqr_weight_generator.weight_predictor.weight"] != 0).any()


@pytest.mark.parametrize("sensor", ["camera", "lidar"])
def test_a_detector_of_one_sensor_has_nothing_to_route(preset: Preset, sensor: str) -> None:
    single = replace(preset, camera=None) if sensor == "lidar" else replace(preset, lidar=None)
    with pytest.raises(ConfigError, match=r"has only one of them; train it with .* `cmt`"):
        build_detector(single, aqr=AqrConfig())
