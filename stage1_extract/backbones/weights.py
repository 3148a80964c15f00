"""Frozen backbones with weights from a CMT checkpoint, or with seeded random weights."""

from pathlib import Path

import torch

from shared.checkpoint.strict_loading import load_parts, read_state
from shared.config.cut import BACKBONE_CUT, Cut
from shared.config.preset import Preset
from stage1_extract.backbones.frozen import FrozenBackbones
from stage1_extract.backbones.seeded_weights import seed_weights

SEED = 0


def frozen_backbones(
    preset: Preset, checkpoint: Path | None, cut: Cut = BACKBONE_CUT
) -> tuple[FrozenBackbones, str]:
    """Build the frozen part on a CUDA device if there is one, else on the CPU.

    Args:
        preset: the detector.
        checkpoint: CMT checkpoint; without one, seeded random weights.
        cut: where the frozen part ends.

    Returns:
        The backbones, and a description of where their weights come from.

    Raises:
        CheckpointError: if the file is not a checkpoint of this preset.
    """
    frozen = FrozenBackbones(preset, cut)
    if checkpoint is None:
        seed_weights(frozen, SEED)
        origin = f"seeded random weights (seed {SEED}), nothing learnt"
    else:
        load_parts(frozen, read_state(checkpoint), frozen.parts, path=checkpoint)
        origin = f"checkpoint {checkpoint.name}"
    frozen.to_device(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    return frozen, origin
