"""A detector to start from: seeded, or with the necks and head of a CMT checkpoint."""

from pathlib import Path

import torch

from shared.checkpoints import load_parts, read_state
from shared.config import Preset
from shared.cut import BACKBONE_CUT, Cut
from shared.model.detector import CmtDetector, build_detector


def fresh_detector(
    preset: Preset, cut: Cut = BACKBONE_CUT, *, seed: int, checkpoint: Path | None = None
) -> CmtDetector:
    """Build what comes after the cut.

    Args:
        preset: the detector.
        cut: where the frozen part ends.
        seed: of the weights; it sets torch's global generator.
        checkpoint: official CMT checkpoint whose necks and head replace the seeded ones.

    Raises:
        CheckpointError: if the checkpoint does not fit the preset.
    """
    torch.manual_seed(seed)
    detector = build_detector(preset, cut)
    if checkpoint is not None:
        state = read_state(checkpoint)
        load_parts(detector, state, detector.parts, path=checkpoint, without=cut.frozen_parts)
    return detector
