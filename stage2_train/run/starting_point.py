"""The weights a run starts from, and the check that they belong to the store's backbones."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from torch import Tensor

from shared.checkpoint.strict_loading import other_backbones, read_state
from shared.config.aqr_config import AqrConfig, aqr_config_from_json
from shared.data.feature_store import FeatureStore
from shared.errors import ConfigError, IdentityError
from shared.model.aqr.bias_generator import AttentionBiasGenerator
from shared.model.detector import CmtDetector
from shared.model.initial_detector import aqr_config_of, fresh_detector, load_checkpoint
from stage2_train.recipes.recipe import Recipe
from stage2_train.run.run_checkpoint import is_run_checkpoint, read_run_checkpoint, trained_weights

log = logging.getLogger(__name__)

WITHOUT_EFFECT = ("attention", "start", "initial_scale")  # on weights that are trained already


@dataclass(frozen=True, kw_only=True, slots=True)
class StartingPoint:
    """Weights that a run starts from.

    Args:
        path: where they come from.
        state: necks and head, by their full names; an official checkpoint has other parts, too.
        backbones: checkpoint that holds the frozen parts they belong to, if it is known.
        aqr: that they were trained with; None for plain CMT.
    """

    path: Path
    state: Mapping[str, Tensor]
    backbones: str | None
    aqr: AqrConfig | None = None


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
            path=checkpoint,
            state=trained_weights(saved),
            backbones=saved["started_from"],
            aqr=None if saved["aqr"] is None else aqr_config_from_json(saved["aqr"]),
        )
    require_backbones(checkpoint, store)
    return StartingPoint(
        path=checkpoint,
        state=read_state(checkpoint),
        backbones=str(checkpoint.resolve()),
        aqr=aqr_config_of(checkpoint),
    )


def starting_detector(
    store: FeatureStore, recipe: Recipe, start: StartingPoint | None, *, is_resumed: bool = False
) -> CmtDetector:
    """Build the detector that a recipe trains from a store, with its first weights.

    Args:
        store: says preset and cut.
        recipe: says the seed and the AQR.
        start: weights for necks and head; what they lack, or all without it, is seeded.
        is_resumed: whether the log has said before what they lack, and where the AQR differs.

    Raises:
        CheckpointError: if the weights do not fit the preset.
        ConfigError: if the scale of the attention bias is out of the recipe's bounds.
    """
    detector = fresh_detector(store.preset, store.cut, seed=recipe.seed, aqr=recipe.aqr)
    if start is not None:
        load_checkpoint(detector, start.state, start.path, is_resumed=is_resumed)
        if start.aqr is not None and recipe.aqr is not None:
            if not is_resumed:
                _log_differences(start.path, start.aqr, recipe.aqr)
            _keep_scale(detector, start)
    return detector


def _log_differences(path: Path, before: AqrConfig, now: AqrConfig) -> None:
    """Say where weights go on under another AQR than they were trained with."""
    differing = [
        f"{name} {getattr(before, name)}, now {getattr(now, name)}"
        for name in (field.name for field in fields(AqrConfig))
        if name not in WITHOUT_EFFECT and getattr(before, name) != getattr(now, name)
    ]
    if differing:
        log.info("AQR differs from that of %s: %s", path, "; ".join(differing))


def _keep_scale(detector: CmtDetector, start: StartingPoint) -> None:
    """Give the attention bias the scale it was trained to, where its bounds are others now.

    What a checkpoint holds is the scale's place between the bounds.
    """
    generator = detector.pts_bbox_head.attention_bias_generator
    before = start.aqr
    if generator is None or before is None or before.effect != "bias":
        return
    if (before.min_scale, before.max_scale) != (generator.low, generator.high):
        trained = AttentionBiasGenerator(before)
        trained.load_state_dict(generator.state_dict())
        try:
            generator.start_at(trained.scale.item())
        except ConfigError as error:
            raise ConfigError(f"AQR of {start.path}: {error}") from None


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
