"""A detector with AQR: at the start equal to a detector without, then what the weights change."""

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
    plain, weighted = built(preset, None), built(preset, aqr)
    for queries in (None, denoising(batch, preset)):
        expected, ours = plain(batch, queries), weighted(batch, queries)
        close(ours, expected)
        assert ours.sensor_weights is not None
        assert (ours.sensor_weights == 0).all()
        assert (ours.denoising is None) == (queries is None)
        if ours.denoising is not None and expected.denoising is not None:
            close(ours.denoising, expected.denoising)


def test_everything_but_aqr_starts_with_the_weights_it_has_without(preset: Preset) -> None:
    plain, weighted = built(preset, None).state_dict(), built(preset, CONFIGS[0]).state_dict()
    assert plain.keys() < weighted.keys()
    assert all(torch.equal(weighted[name], tensor) for name, tensor in plain.items())
    new = {name.split(".")[1] for name in weighted.keys() - plain.keys()}
    assert new == {"aqr_weight_generator", "attention_bias_generator"}


def trusting(preset: Preset, aqr: AqrConfig, weights: tuple[float, float]) -> CmtDetector:
    """Return a detector with these sensor weights for every query whose windows hold tokens."""
    detector = built(preset, aqr)
    generator = detector.pts_bbox_head.aqr_weight_generator
    assert generator is not None
    with torch.no_grad():
        generator.weight_predictor.bias.copy_(torch.tensor(weights).atanh())
    return detector


def sensitivity(detector: CmtDetector, batch: Batch, sensor: str) -> float:
    """Return how much the outputs depend on the maps of a sensor."""
    maps = {name: values.float().requires_grad_() for name, values in batch.maps.items()}
    outputs = detector(replace(batch, maps=maps))
    outputs.class_logits.square().sum().backward()
    gradients = [values.grad for name, values in maps.items() if name.startswith(sensor)]
    return float(sum(grad.square().sum() for grad in gradients if grad is not None))


@pytest.mark.parametrize("effect", ["bias", "modulation"])
def test_trust_in_a_sensor_makes_the_boxes_depend_on_it(
    preset: Preset, batch: Batch, effect: str
) -> None:
    aqr = AqrConfig(
        heads=2, ffn_width=8, bev_window=31, camera_window=31, effect=effect, splat_cells=4.0
    )  # type: ignore[arg-type]
    lidar, cameras = (trusting(preset, aqr, pair) for pair in ((0.99, -0.99), (-0.99, 0.99)))
    assert sensitivity(lidar, batch, "lidar") > sensitivity(cameras, batch, "lidar")
    assert sensitivity(cameras, batch, "camera") > sensitivity(lidar, batch, "camera")


@pytest.mark.parametrize("aqr", CONFIGS, ids=IDS)
def test_denoising_queries_do_not_change_the_others(
    preset: Preset, batch: Batch, aqr: AqrConfig
) -> None:
    """They are near the true boxes: any trace of them would tell the others where to look."""
    detector = trusting(preset, aqr, (0.5, -0.5))
    plain, beside = detector(batch), detector(batch, denoising(batch, preset))
    close(beside, plain)
    torch.testing.assert_close(beside.sensor_weights, plain.sensor_weights)


@pytest.mark.parametrize("aqr", CONFIGS, ids=IDS)
def test_aqr_learns_from_the_boxes(preset: Preset, batch: Batch, aqr: AqrConfig) -> None:
    detector = trusting(preset, aqr, (0.3, -0.3)).train()
    detector(batch, denoising(batch, preset)).codes.sum().backward()
    grads: dict[str, Tensor | None] = {
        name: parameter.grad
        for name, parameter in detector.pts_bbox_head.named_parameters()
        if name.startswith(("aqr_weight_generator", "attention_bias_generator"))
    }
    for name, grad in grads.items():
        assert grad is not None, name
        assert grad.isfinite().all(), name
    assert (grads["aqr_weight_generator.weight_predictor.weight"] != 0).any()


@pytest.mark.parametrize("sensor", ["camera", "lidar"])
def test_a_detector_of_one_sensor_has_nothing_to_weigh(preset: Preset, sensor: str) -> None:
    single = replace(preset, camera=None) if sensor == "lidar" else replace(preset, lidar=None)
    with pytest.raises(ConfigError, match=r"has only one of them; train it with .* `cmt`"):
        build_detector(single, aqr=AqrConfig())
