"""The weights a run starts from, and the check that they belong to the store's backbones."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from shared.checkpoint.strict_loading import other_backbones, read_state
from shared.data.feature_store import FeatureStore
from shared.errors import IdentityError
from shared.model.detector import CmtDetector
from shared.model.initial_detector import fresh_detector, load_checkpoint
from stage2_train.recipes.recipe import Recipe
from stage2_train.run.run_checkpoint import is_run_checkpoint, read_run_checkpoint, trained_weights


@dataclass(frozen=True, kw_only=True, slots=True)
class StartingPoint:
    """Weights that a run starts from.

    Args:
        path: where they come from.
        state: necks and head, by their full names; an official checkpoint has other parts, too.
        backbones: checkpoint that holds the frozen parts they belong to, if it is known.
    """

    path: Path
    state: Mapping[str, Tensor]
    backbones: str | None


def starting_point(checkpoint: Path, store: FeatureStore) -> StartingPoint:
    """Read weights to start from, and check that they belong to the features of a store.

    Args:
        checkpoint: official CMT checkpoint, or a run folder or checkpoint of `train-stage2`.
        store: to train from.

    Raises:
        CheckpointError: if it is neither.
        IdentityError: if it belongs to different backbones.
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


def starting_detector(
    store: FeatureStore, recipe: Recipe, start: StartingPoint | None, *, is_resumed: bool = False
) -> CmtDetector:
    """Build the detector that a recipe trains from a store, with its first weights.

    Args:
        store: says preset and cut.
        recipe: says the seed and the AQR.
        start: weights for necks and head; what they lack, or all without it, is seeded.
        is_resumed: whether the log has said before what they lack.

    Raises:
        CheckpointError: if the weights do not fit the preset.
    """
    detector = fresh_detector(store.preset, store.cut, seed=recipe.seed, aqr=recipe.aqr)
    if start is not None:
        load_checkpoint(detector, start.state, start.path, is_resumed=is_resumed)
    return detector


def require_features(saved: Mapping[str, Any], run: Path, store: FeatureStore) -> None:
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


def require_backbones(checkpoint: Path, store: FeatureStore) -> None:
    """Check that the store's features come from the backbones in this checkpoint.

    A checkpoint without backbones has nothing to compare.

    Raises:
        IdentityError: naming the parts that differ.
    """
    differing = other_backbones(read_state(checkpoint), store.identity["weights"], checkpoint)
    if differing:
        raise IdentityError(
            f"{store.path} was not made with {checkpoint}: {', '.join(differing)} differ, so its "
            "necks and head were not trained on such features; use the checkpoint that the store "
            f"was extracted with (`feature-cache show {store.path}` says which), or extract again "
            "with this one"
        )
