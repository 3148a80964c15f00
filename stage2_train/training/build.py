"""Trains from a store: its samples and delta stores as batches, and the detector to start from."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from shared.data.feature_store import ConditionedStore, FeatureStore
from stage2_train.data.class_balance import class_balance
from stage2_train.data.conditioned_stores import (
    by_condition,
    content_digests,
    require_same_names,
)
from stage2_train.data.dataset import StoreDataset, samples_digest
from stage2_train.data.loader import BatchLoader
from stage2_train.data.loading_options import THREADS
from stage2_train.data.sampler import EpochSampler
from stage2_train.data.subset import Subset, subset_record, subset_tokens
from stage2_train.data.training_batches import TrainingBatches
from stage2_train.freezing.freezing import absent_parts, freeze, require_trainable
from stage2_train.recipes.recipe import Recipe
from stage2_train.run.run_files import CONFIG, OVERRIDES
from stage2_train.run.starting_point import starting_detector, starting_point
from stage2_train.training.assembly import train_batches
from stage2_train.training.validation import Validator

log = logging.getLogger(__name__)


def train(
    store: FeatureStore,
    recipe: Recipe,
    out: Path,
    *,
    checkpoint: Path | None = None,
    conditions: Sequence[ConditionedStore] = (),
    subset: Subset | None = None,
    overrides: Sequence[str] = (),
    validator: Validator | None = None,
    stop_after: int | None = None,
    workers: int = 0,
    loader: str = THREADS,
    devices: int = 1,
    nodes: int = 1,
) -> dict[str, float | None]:
    """Train necks and head from a store, or resume the run in `out`.

    Args:
        store: a complete store.
        recipe: hyper-parameters.
        out: run folder.
        checkpoint: official CMT checkpoint, or run of `train-stage2`, to start from; without one,
            seeded random weights.
        conditions: delta stores of `store`, of the conditions that the recipe names.
        subset: of the store's samples, to train on; None is all of them.
        overrides: what the user changed in the recipe; recorded.
        validator: see `train_batches`.
        stop_after: see `train_batches`.
        workers: loader threads, for each device.
        loader: see `BatchLoader`.
        devices: see `train_batches`.
        nodes: see `train_batches`.

    Returns:
        See `train_batches`.

    Raises:
        CacheError: if the store is incomplete, or lacks null features that the recipe needs.
        CheckpointError: if the checkpoint does not fit the preset.
        ConfigError: if the recipe trains what the store has frozen, or freezes what is not there,
            the subset is empty, or the delta stores are not those of its conditions.
        IdentityError: if the checkpoint belongs to other backbones than the store was made with.
        And whatever `train_batches` raises.
    """
    store.require_complete()
    require_trainable(recipe, store)
    conditioned = by_condition(conditions)
    require_same_names(conditioned, recipe.conditions)
    tokens = subset_tokens(store, subset)
    start = None if checkpoint is None else starting_point(checkpoint, store)
    if start is None:
        log.info("no --checkpoint: necks and head start from seeded weights, nothing learnt")
    detector = starting_detector(store, recipe, start, is_resumed=(out / CONFIG).exists())
    freeze(detector, recipe.frozen, absent=sorted(absent_parts(detector)))
    dataset = StoreDataset(store, tokens, conditioned)
    if recipe.sensor_drop is not None:
        dataset.require_droppable(recipe.sensor_drop.possible)
    return train_batches(
        TrainingBatches(
            order=partial(training_order, store, recipe, tokens),
            load=partial(BatchLoader, dataset, workers=workers, loader=loader),
        ),
        detector,
        recipe,
        out,
        samples=samples_digest(store),
        origin={
            "features": store.features_digest,
            "sources": store.sources_digest,
            "backbones": store.identity["weights"],
            "started_from": None if start is None else start.backbones,
            "parity": store.parity_note(),
        },
        record={
            "subset": subset_record(subset, tokens),
            OVERRIDES: list(overrides),
            **({"conditions": content_digests(conditioned)} if conditioned else {}),
        },
        validator=validator,
        stop_after=stop_after,
        devices=devices,
        nodes=nodes,
    )


def training_order(
    store: FeatureStore, recipe: Recipe, tokens: Sequence[str] | None = None
) -> EpochSampler:
    """Return the order of the whole run's batches, from its first step on.

    Args:
        store: to train from.
        recipe: says how its samples are drawn.
        tokens: the samples, whose classes are balanced among them; None is all of the store.
    """
    tokens = store.tokens if tokens is None else tokens
    balance = class_balance(store, tokens) if recipe.class_balanced else None
    return EpochSampler(
        len(tokens),
        recipe.batch_size,
        recipe.seed,
        variants=store.variants,
        per_sensor=recipe.variants_per_sensor and store.preset.camera is not None,
        balance=balance,
        drop=recipe.sensor_drop,
        conditions=recipe.conditions,
    )
