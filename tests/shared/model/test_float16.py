"""Under float16 autocast nothing overflows that would not overflow in the official code."""

import pytest
import torch

from shared.config.preset import Preset
from shared.data.batch import Batch
from shared.data.ground_truth import GroundTruth
from shared.model.decoder import Decoder
from shared.model.denoising import make_denoising_queries
from shared.model.detector import CmtDetector, build_detector
from shared.model.losses import detection_losses, total_loss


@pytest.fixture
def detector(preset: Preset) -> CmtDetector:
    torch.manual_seed(0)
    detector = build_detector(preset)
    # In metres (0, 7, -1), (0, -7, -1): in the planes of two cameras. The others: behind some.
    places = [[0.5, 0.9375, 0.5], [0.5, 0.0625, 0.5], [0.1, 0.1, 0.5], [0.9, 0.9, 0.1]]
    with torch.no_grad():
        detector.pts_bbox_head.reference_points.weight[:4] = torch.tensor(places)
    return detector


def test_queries_in_the_plane_of_a_camera_stay_finite(
    detector: CmtDetector, batch: Batch, preset: Preset
) -> None:
    noised = make_denoising_queries(
        batch.boxes_lidar,
        batch.labels,
        preset.head,
        preset.grid.point_range_m,
        generator=torch.Generator().manual_seed(2),
    )
    torch.manual_seed(1)
    with torch.autocast("cpu", dtype=torch.float16):
        outputs = detector(batch, noised)
    truth = GroundTruth.of(batch.boxes_lidar, batch.labels)
    losses = detection_losses(outputs, truth, preset.head, denoising=noised)
    total_loss(losses).backward()

    torch.manual_seed(1)
    exact = detector(batch, noised)
    torch.testing.assert_close(outputs.codes, exact.codes, rtol=0.02, atol=0.05)
    for name, parameter in detector.named_parameters():
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_positions_are_float32_instead_of_float16(
    detector: CmtDetector, batch: Batch, dtype: torch.dtype
) -> None:
    head = detector.pts_bbox_head
    cameras = head.geometry(batch.img_from_lidar)
    expected = torch.float32 if dtype == torch.float16 else dtype
    with torch.autocast("cpu", dtype=dtype):
        assert head.bev_positions(2, 2).dtype == expected
        assert head.image_positions(cameras, 2, 2).dtype == expected


def test_gradients_of_the_first_self_attention_do_not_overflow() -> None:
    """Its queries are empty, so the norm after it multiplies gradients by 316."""
    torch.manual_seed(0)
    decoder = Decoder(layers=2, width=16, heads=2, hidden=8, dropout=0.0)
    positions, keys = torch.randn(1, 5, 16), torch.randn(1, 7, 16)
    gradients = {}
    for dtype in (torch.float32, torch.float16):
        with torch.autocast("cpu", dtype=torch.float16, enabled=dtype == torch.float16):
            decoded = decoder(positions, keys, keys, None)
        decoder.zero_grad()
        (decoded.float().square() * torch.arange(16)).sum().mul(16.0).backward()
        gradients[dtype] = decoder.layers[0].attentions[0].attn.out_proj.bias.grad
    exact = gradients[torch.float32]
    assert exact.abs().max() > torch.finfo(torch.float16).max
    torch.testing.assert_close(gradients[torch.float16], exact, rtol=0.05, atol=1e3)
