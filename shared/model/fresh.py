"""A detector to start from: seeded, or with the necks and head of a CMT checkpoint."""

from pathlib import Path

import torch

from shared.checkpoints import load_parts, read_state
from shared.config import Preset
from shared.model.detector import CmtDetector, build_detector


def fresh_detector(preset: Preset, *, seed: int, checkpoint: Path | None = None) -> CmtDetector:
    """Build the trainable part.

    Args:
        preset: the detector.
        seed: of the weights; it sets torch's global generator.
        checkpoint: official CMT checkpoint whose necks and head replace the seeded ones.

    Raises:
        CheckpointError: if the checkpoint does not fit the preset.
    """
    torch.manual_seed(seed)
    detector = build_detector(preset)
    if checkpoint is not None:
        load_parts(detector, read_state(checkpoint), detector.parts, path=checkpoint)
    return detector
