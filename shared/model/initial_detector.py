"""A detector to start from: seeded, or with the necks and head of a checkpoint."""

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from shared.checkpoint.checkpoint_table import AQR_PARTS, belongs
from shared.checkpoint.strict_loading import load_parts, read_checkpoint, read_state
from shared.config.aqr_config import AqrConfig, aqr_config_from_json
from shared.config.cut import BACKBONE_CUT, Cut
from shared.config.preset import Preset
from shared.model.detector import CmtDetector, build_detector

log = logging.getLogger(__name__)


def fresh_detector(
    preset: Preset,
    cut: Cut = BACKBONE_CUT,
    *,
    seed: int,
    checkpoint: Path | None = None,
    aqr: AqrConfig | None = None,
) -> CmtDetector:
    """Build what comes after the cut.

    Args:
        preset: the detector.
        cut: where the frozen part ends.
        seed: of the weights; it sets torch's global generator.
        checkpoint: CMT checkpoint whose necks and head replace the seeded ones. If only the
            detector has AQR, its AQR weights are logged as new and stay seeded.
        aqr: adaptive query routing; None is plain CMT.

    Raises:
        CheckpointError: if the checkpoint does not fit the preset.
        ConfigError: if AQR is requested for a detector of one sensor.
    """
    torch.manual_seed(seed)
    detector = build_detector(preset, cut, aqr)
    if checkpoint is not None:
        load_checkpoint(detector, read_state(checkpoint), checkpoint)
    return detector


def aqr_config_of(checkpoint: Path) -> AqrConfig | None:
    """Return the AQR that a checkpoint was trained with, None for plain CMT.

    Args:
        checkpoint: of `train-stage2` or `export-checkpoint`, which record it, or official.

    Raises:
        CheckpointError: if it cannot be read.
    """
    content = read_checkpoint(checkpoint)
    meta = content.get("meta")
    exported = meta.get("frozen_cmt") if isinstance(meta, Mapping) else None
    saved = (exported or content).get("aqr")
    return None if saved is None else aqr_config_from_json(saved)


def load_checkpoint(
    detector: CmtDetector, state: Mapping[str, Tensor], path: Path, *, is_resumed: bool = False
) -> None:
    """Copy necks and head from a state dict, and AQR if the state dict has it.

    Args:
        detector: to copy into.
        state: names and weights.
        path: where they come from.
        is_resumed: whether the log has said before what is new.

    Raises:
        CheckpointError: if it does not fit.
    """
    own = detector.state_dict()
    fresh = [
        part
        for part in AQR_PARTS
        if any(belongs(name, [part]) for name in own)
        and not any(belongs(name, [part]) for name in state)
    ]
    load_parts(
        detector, state, detector.parts, path=path, without=detector.cut.frozen_parts, fresh=fresh
    )
    for part in () if is_resumed else fresh:
        sizes: Counter[str] = Counter()
        for name, tensor in own.items():
            if belongs(name, [part]):
                sizes[name.removeprefix(f"{part}.").partition(".")[0]] += tensor.numel()
        modules = ", ".join(f"{module} {size:,}" for module, size in sizes.items())
        log.info("new in this run, not in %s: parameters of %s (%s)", path, part, modules)
