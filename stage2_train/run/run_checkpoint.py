"""What a checkpoint of `train-stage2` holds, and how it is read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shared.checkpoint.strict_loading import read_checkpoint
from shared.errors import CheckpointError

CHECKPOINT = "checkpoint.pt"  # of a run folder: the one to resume from and to evaluate

# What every checkpoint of `train-stage2` holds: weights of the trained part, its preset, steps
# taken, digest of the features it was trained on, digests of the frozen parts they came from, and
# the checkpoint that training started from. The rest is for resuming.
REQUIRED = ("state_dict", "preset", "aqr", "step", "features", "backbones", "started_from")
RESUMING = ("state_dict", "ema", "optimizer", "scaler", "progress")


def read_run_checkpoint(path: Path) -> dict[str, Any]:
    """Return the checkpoint of a run folder, or a checkpoint file of `train-stage2`.

    Raises:
        CheckpointError: if it is neither.
    """
    file = path / CHECKPOINT if path.is_dir() else path
    content = read_checkpoint(file)
    _require_keys(content, REQUIRED, file)
    return content


def read_resumable(file: Path) -> dict[str, Any]:
    """Return a checkpoint that a run can go on from.

    Raises:
        CheckpointError: if it is damaged, or lacks what resuming needs.
    """
    content = read_checkpoint(file)
    _require_keys(content, RESUMING, file)
    return content


def _require_keys(content: Mapping[str, Any], keys: Sequence[str], file: Path) -> None:
    missing = [key for key in keys if key not in content]
    if missing:
        raise CheckpointError(
            f"{file} has no {', '.join(missing)}; expected a checkpoint that train-stage2 wrote"
        )


def trained_weights(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return the weights to evaluate: the moving average, in a run that keeps one."""
    averaged: dict[str, Any] | None = checkpoint.get("ema")
    last: dict[str, Any] = checkpoint["state_dict"]
    return last if averaged is None else averaged


def is_run_checkpoint(path: Path) -> bool:
    """Return whether `path` is a run folder, or a checkpoint file that `train-stage2` wrote."""
    return path.is_dir() or "features" in read_checkpoint(path)
