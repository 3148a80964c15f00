"""Evaluate a detector on a store, or a finished submission, with pictures."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from shared.data.feature_store import ConditionedStore, FeatureStore
from shared.digests import file_digest, state_digest
from shared.model.detector import CmtDetector
from shared.process.autocast import allow_tf32
from shared.process.device import available_device
from shared.process.folder_lock import locked_folder
from shared.process.memory.freed_memory import keep_freed_memory
from stage2_train.data.conditioned_stores import by_condition
from stage2_train.data.dataset import StoreDataset, samples_digest
from stage2_train.evaluation.conditions.condition_tables import nds_of, write_condition_tables
from stage2_train.evaluation.conditions.judged_condition import BASELINE, judged_conditions
from stage2_train.evaluation.conditions.judging import GroundTruthTables, judge_conditions
from stage2_train.evaluation.conditions.score_baseline import BaselineDetector, ScoreBaseline
from stage2_train.evaluation.evaluation_folder import (
    LOCK,
    claim_folder,
    prepare_folder,
    write_metrics,
)
from stage2_train.evaluation.official_metrics import judge
from stage2_train.evaluation.official_tables import coverage, open_tables, version_of
from stage2_train.evaluation.submission import read_submission
from stage2_train.plots.condition_plots import plot_conditions
from stage2_train.plots.evaluation_plots import plot_evaluation
from stage2_train.plots.plot_choice import PlotChoice, require_plottable

log = logging.getLogger(__name__)


def evaluate(
    store: FeatureStore,
    detector: CmtDetector,
    out: Path,
    *,
    nuscenes_root: Path | None = None,
    drops: Sequence[str] = (),
    conditions: Sequence[ConditionedStore] = (),
    baseline: ScoreBaseline | BaselineDetector | None = None,
    plots: PlotChoice = 0,
    workers: int = 0,
    name: str = "a detector",
) -> dict[str, Any]:
    """Write the result JSON and, with the tables, the official metrics; in float32, not TF32.

    Args:
        store: a complete store.
        detector: of `load_detector`.
        out: folder to write to.
        nuscenes_root: folder with the tables the store was made from; None for no metrics.
        drops: among `judged_condition.DROPS`: also evaluate without these sensors.
        conditions: delta stores of `store`: also evaluate under these.
        baseline: to compare with under all of them; a detector is evaluated, too.
        plots: samples to plot, see `evaluation_plots`; needs the tables.
        workers: loader threads.
        name: of detector and store, for the record.

    Returns:
        The metrics summary of the clean samples, empty without tables.

    Raises:
        CacheError: if a store is incomplete, or has no null features to drop a sensor with.
        ConfigError: if a sensor cannot be dropped or a sample not be plotted, if conditions do not
            go together or there is nothing to compare a baseline with, or if another process
            evaluates into this folder, or it holds the evaluation of something else.
        DatasetError: if the tables do not fit.
    """
    allow_tf32(False)
    if available_device().type == "cpu":
        keep_freed_memory()
    store.require_complete()
    deltas = by_condition(conditions)
    wanted = judged_conditions(drops, deltas, store)
    if isinstance(baseline, ScoreBaseline):
        baseline.require_common(wanted)
    with locked_folder(out, LOCK):
        truth = _ground_truth(store, nuscenes_root, plots)
        weights = state_digest(detector.state_dict())
        claim_folder(
            out,
            name,
            {"features": store.identity_digest, "weights": weights},
            samples_digest(store),
        )
        judged = partial(
            judge_conditions,
            store=store,
            dataset=StoreDataset(store, store.tokens, deltas),
            conditions=wanted,
            truth=truth,
            workers=workers,
            plot=lambda judgement, folder: plot_evaluation(
                judgement, truth and truth.tables, plots, folder / "pictures"
            ),
        )
        results = judged(detector, out=out)
        if isinstance(baseline, BaselineDetector):
            folder = out / BASELINE
            compared = judged(baseline.detector, out=folder)
            write_condition_tables(folder, compared)
            baseline = ScoreBaseline(name=baseline.name, numbers=nds_of(compared))
        if len(results) > 1:
            write_condition_tables(out, results, baseline)
            if plots != 0:
                plot_conditions(results, baseline, out)
    return results[0].summary if results else {}


def _ground_truth(
    store: FeatureStore, nuscenes_root: Path | None, plots: PlotChoice
) -> GroundTruthTables | None:
    """Open the tables, if there are any, and check that they and the pictures fit the store."""
    if nuscenes_root is None:
        return None
    require_plottable(plots, store.tokens)
    tables = open_tables(nuscenes_root, store.identity["dataset"]["version"])
    return GroundTruthTables(tables=tables, covered=coverage(tables, store.tokens))


def evaluate_submission(
    results: Path, nuscenes_root: Path, out: Path, *, plots: PlotChoice = 0
) -> dict[str, Any]:
    """Score any submission on the samples it has.

    Returns:
        The metrics summary.

    Raises:
        ConfigError: if a sample to plot is not in it, or another process evaluates into `out`.
        DatasetError: if it is no valid submission, or its samples are not in the tables.
        And what `claim_folder` raises.
    """
    submission = read_submission(results)
    tokens = submission.tokens
    require_plottable(plots, tokens)
    tables = open_tables(nuscenes_root, version_of(nuscenes_root, tokens, results))
    covered = coverage(tables, tokens)
    log.info("%s: %d boxes in %s", results, submission.boxes, covered.statement())
    with locked_folder(out, LOCK):
        prepare_folder(out)
        claim_folder(out, str(results), {"results": file_digest(results)})
        judgement = judge(results, tables, covered, tokens, out)
        write_metrics(out, results, judgement.summary)
        plot_evaluation(judgement, tables, plots, out / "pictures")
        return judgement.summary
