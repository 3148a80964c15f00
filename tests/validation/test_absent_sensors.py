"""The figures of docs/fidelity.md about absent sensors: what they are computed from."""

from pathlib import Path

import numpy as np
import torch

from benchmarks.validation.absent_sensors import absent_maps, measure
from shared.config.preset_catalogue import tiny
from stage1_extract.backbones.live import LiveFeatures
from stage1_extract.backbones.weights import frozen_backbones
from stage1_extract.extraction.null_sample import null_raw_frame
from stage1_extract.preprocessing.variant import Variant


@torch.inference_mode()
def test_the_exact_answer_to_the_recorded_sample_is_the_one_that_a_store_keeps() -> None:
    frozen = frozen_backbones(tiny(), None)[0]
    (kept,) = LiveFeatures([], frozen).run([null_raw_frame(tiny())])

    maps, _ = absent_maps(frozen, Variant())
    shifted, _ = absent_maps(frozen, Variant(translation_m=(4.0, 0.0, 0.0)))

    assert maps.keys() == kept.maps.keys()
    for name, values in kept.maps.items():
        np.testing.assert_allclose(maps[name], values, rtol=1e-4, atol=1e-5, err_msg=name)
    assert np.abs(shifted["lidar/stride8"] - maps["lidar/stride8"]).max() > 1e-3


def test_the_measurement_covers_both_sensors(synthetic_root: Path) -> None:
    document = measure(synthetic_root, "tiny", None, samples=1)
    assert document["outputs"].keys() == {"no lidar", "no cameras"}
    for figures in document["outputs"].values():
        assert figures["present: score, largest"] > 0
        assert figures["recorded: score, largest"] > 0
    cost = document["cost"]
    assert 0 < cost["bytes of absent maps"] < cost["bytes of a row's maps"]
