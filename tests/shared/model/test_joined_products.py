"""Products that are joined on a GPU mean the same as those that are not."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

import pytest
import torch
from torch import Tensor

from shared.config.aqr_config import AqrConfig
from shared.config.preset import Preset
from shared.data.batch import Batch
from shared.data.ground_truth import GroundTruth
from shared.model import decoder as decoder_module
from shared.model.denoising import make_denoising_queries
from shared.model.detector import CmtDetector, build_detector
from shared.model.losses import detection_losses, total_loss
from shared.process import autocast

DEVICES = [pytest.param("cuda", marks=pytest.mark.gpu), "cpu"]
AQR = [None, AqrConfig(start="upstream", attention="dense", dropout=0.0)]


@contextmanager
def joining(devices: tuple[str, ...]) -> Iterator[None]:
    with mock.patch.object(autocast, "JOINING_DEVICES", devices):
        yield


def gradients(
    detector: CmtDetector, batch: Batch, dtype: torch.dtype
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return codes of every query and layer, and the gradients of the losses."""
    config, device = detector.preset.head, detector.device
    noised = make_denoising_queries(
        batch.boxes_lidar,
        batch.labels,
        config,
        detector.preset.grid.point_range_m,
        generator=torch.Generator().manual_seed(2),
        device=device,
    )
    detector.zero_grad()
    is_mixed = dtype != torch.float32
    with torch.autocast(device.type, dtype=dtype if is_mixed else None, enabled=is_mixed):
        outputs = detector(batch, noised)
    truth = GroundTruth.of(batch.boxes_lidar, batch.labels).to(device)
    losses = detection_losses(outputs, truth, config, denoising=noised)
    total_loss(losses).backward()
    assert outputs.denoising is not None
    codes = torch.cat([outputs.denoising.codes, outputs.codes], dim=2).detach()
    return codes, {name: p.grad for name, p in detector.named_parameters()}


@pytest.fixture
def deterministic_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let convolutions on a GPU round to float32, not to TF32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.mark.usefixtures("deterministic_float32")
@pytest.mark.parametrize("aqr", AQR)
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("tokens", [0, decoder_module.JOINED_TOKENS])
def test_joined_products_have_the_same_outputs_and_gradients(
    preset: Preset,
    batch: Batch,
    device: str,
    aqr: AqrConfig | None,
    tokens: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decoder_module, "JOINED_TOKENS", tokens)
    small = replace(preset, head=replace(preset.head, dropout=0.0))
    torch.manual_seed(0)
    detector = build_detector(small, aqr=aqr).to(device)
    with joining(()):
        separate, expected = gradients(detector, batch.to(device), torch.float32)
    with joining((device,)):
        joined, ours = gradients(detector, batch.to(device), torch.float32)

    torch.testing.assert_close(joined, separate, rtol=1e-4, atol=1e-4)
    for name, gradient in expected.items():
        scale = gradient.abs().max().item()
        torch.testing.assert_close(
            ours[name], gradient, rtol=1e-3, atol=1e-5 + 1e-4 * scale, msg=lambda m, n=name: n + m
        )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("device", DEVICES)
def test_joined_products_train_in_half_precision(
    preset: Preset, batch: Batch, device: str, dtype: torch.dtype
) -> None:
    small = replace(preset, head=replace(preset.head, dropout=0.0))
    torch.manual_seed(0)
    detector = build_detector(small).to(device)
    with joining(()):
        separate, expected = gradients(detector, batch.to(device), dtype)
    with joining((device,)):
        joined, ours = gradients(detector, batch.to(device), dtype)

    largest = max(gradient.norm().item() for gradient in expected.values())
    assert (joined - separate).norm() < 0.02 * separate.norm()
    for name, gradient in expected.items():
        # Gradients that are 0 but for rounding are compared with the largest of the detector.
        scale = max(gradient.norm().item(), 1e-3 * largest)
        assert (ours[name] - gradient).norm() < 0.05 * scale, name


def test_task_heads_with_neighbours_stay_convolutions(preset: Preset, batch: Batch) -> None:
    wide = replace(preset, head=replace(preset.head, task_kernel=3))
    torch.manual_seed(0)
    heads = build_detector(wide).pts_bbox_head.task_heads[0]
    decoded = torch.randn(2, 2, 5, 16)
    expected = heads(decoded)
    with joining(("cpu",)):
        ours = heads(decoded)
    assert all(torch.equal(ours[name], values) for name, values in expected.items())
