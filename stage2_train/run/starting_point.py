"""Necks and head belong to the backbones they were trained on: the check before they are joined."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from cache.reader import CachedFeatures
from shared.checkpoint.strict_loading import other_backbones, read_state
from shared.errors import IdentityError
from stage2_train.run.run_folder import is_run_checkpoint, read_run_checkpoint, trained_weights


@dataclass(frozen=True, kw_only=True, slots=True)
class StartingPoint:
    """Weights that a run starts from.

    Args:
        path: where they come from.
        state: necks and head, by their full names; in an official checkpoint beside other parts.
        backbones: checkpoint that holds the frozen parts they belong to, if any is known.
    """

    path: Path
    state: Mapping[str, Tensor]
    backbones: str | None


def starting_point(checkpoint: Path, store: CachedFeatures) -> StartingPoint:
    """Read weights to start from, and check that they belong to the features of a store.

    Args:
        checkpoint: official CMT checkpoint, or a run folder or checkpoint of `train-stage2`.
        store: to train from.

    Raises:
        CheckpointError: if it is neither.
        IdentityError: if it belongs to other backbones.
    """
    if is_run_checkpoint(checkpoint):
        saved = read_run_checkpoint(checkpoint)
        require_features(saved, checkpoint, store)
        return StartingPoint(
            path=checkpoint, state=trained_weights(saved), backbones=saved["started_from"]
        )
    require_backbones(checkpoint, store)
    return StartingPoint(
        path=checkpoint, state=read_state(checkpoint), backbones=str(checkpoint.resolve())
    )


def require_features(saved: Mapping[str, Any], run: Path, store: CachedFeatures) -> None:
    """Check that a checkpoint of `train-stage2` was trained on the features of this extraction.

    Raises:
        IdentityError: if not.
    """
    if saved["features"] != store.features_digest:
        raise IdentityError(
            f"{run} was trained on features made from other backbone weights or other "
            f"preprocessing than those of {store.path}; use a store of the same extraction "
            "(`feature-cache show` prints what a store was made from)"
        )


def require_backbones(checkpoint: Path, store: CachedFeatures) -> None:
    """Check that the store's features come from the backbones in this checkpoint.

    A checkpoint without backbones has nothing to compare.

    Raises:
        IdentityError: naming the parts that differ.
    """
    others = other_backbones(read_state(checkpoint), store.identity["weights"], checkpoint)
    if others:
        raise IdentityError(
            f"{store.path} was not made with {checkpoint}: {', '.join(others)} differ, so the "
            "necks and head in it have never seen such features; use the checkpoint that the store "
            f"was extracted with ({store.provenance.weights}), or extract again with this one"
        )
