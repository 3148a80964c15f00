"""The trained detector as a checkpoint that every command takes with `--checkpoint`."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from shared.checkpoint.checkpoint_table import PARTS, part_of
from shared.config.classes import CLASS_NAMES
from shared.config.config_json import to_json
from shared.config.preset import Preset
from shared.process.whole_file import whole_file
from stage2_train.run.official_export import in_official_order, synthesised_metadata


def write_tiny_checkpoint(
    path: Path, weights: Mapping[str, Tensor], preset: Preset, step: int
) -> None:
    """Write all weights under their official names, without anything else of the run.

    Convolutions and matrices are rounded to float16; vectors and BatchNorm statistics, which may
    exceed float16's range and are few, are not.

    Args:
        path: file to write or replace.
        weights: of the whole detector, and perhaps of what was only trained along.
        preset: of the detector.
        step: of the run that they come from.
    """
    rounded = {
        name: tensor.half() if tensor.dim() > 1 else tensor
        for name, tensor in weights.items()
        if part_of(name) in PARTS
    }
    state = in_official_order(rounded)
    state._metadata = synthesised_metadata(state)  # type: ignore[attr-defined]
    meta = {
        "CLASSES": CLASS_NAMES,
        "frozen_cmt": {"preset": to_json(preset), "step": step, "aqr": None},
    }
    with whole_file(path) as file:
        torch.save({"meta": meta, "state_dict": state}, file)
