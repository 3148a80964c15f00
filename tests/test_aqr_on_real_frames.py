"""On real frames and at full size: a detector with AQR starts as the detector without it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from shared.config.aqr_config import AqrConfig
from shared.config.preset_catalogue import r50_800x320
from shared.data.batch import collate
from shared.model.detector import build_detector
from stage1_extract.backbones.live import LiveFeatures
from stage1_extract.backbones.weights import frozen_backbones
from stage1_extract.nuscenes.nuscenes_tables import read_tables

QUERIES = 200  # of 900, each of which goes the same way
FLOAT_STEPS = 32  # of the largest value: six layers of rounding, and no more


@pytest.mark.real
@torch.inference_mode()
def test_at_the_start_the_outputs_are_those_of_cmt(nuscenes_real: Path) -> None:
    preset = r50_800x320()
    preset = replace(preset, head=replace(preset.head, queries=QUERIES))
    records = read_tables(nuscenes_real, "v1.0-mini", "mini_train+mini_val", existing_only=True)
    live = LiveFeatures(records[-1:], frozen_backbones(preset, None)[0])
    batch = collate(live.read(live.tokens))
    detectors = []
    for aqr in (None, AqrConfig(), AqrConfig(effect="modulation")):
        torch.manual_seed(0)
        detectors.append(build_detector(preset, aqr=aqr).eval())

    plain, biased, modulated = (detector(batch) for detector in detectors)

    assert biased.sensor_weights is not None
    assert (biased.sensor_weights == 0).all()
    for name in ("codes", "class_logits"):
        expected = getattr(plain, name)
        allowed = FLOAT_STEPS * torch.finfo(torch.float32).eps * expected.abs().max()
        assert (getattr(biased, name) - expected).abs().max() <= allowed
        assert torch.equal(getattr(modulated, name), expected)
