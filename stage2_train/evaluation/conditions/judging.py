"""Run a detector over the samples under every condition, each into a folder of its own."""

import filecmp
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from shared.data.feature_store import FeatureStore
from shared.model.detector import CmtDetector
from shared.wording import counted
from stage2_train.data.dataset import StoreDataset
from stage2_train.data.loader import EVALUATION_BATCH, evaluation_batches
from stage2_train.evaluation.conditions.judged_condition import CLEAN_SAMPLES, JudgedCondition
from stage2_train.evaluation.conditions.judging_processes import JudgingProcesses, default_processes
from stage2_train.evaluation.detections import detect, write_results
from stage2_train.evaluation.evaluation_folder import RESULTS, prepare_folder, write_metrics
from stage2_train.evaluation.mean_weights import MeanSensorWeights
from stage2_train.evaluation.official_metrics import Judgement, judge
from stage2_train.evaluation.official_tables import Coverage

log = logging.getLogger(__name__)

MEMORY_PER_RESULT_BYTE = 7  # that the devkit takes to judge a result JSON; 6.2 were measured


@dataclass(frozen=True, kw_only=True, slots=True)
class GroundTruthTables:
    """What detections of a store's samples are judged by.

    Args:
        tables: of nuscenes-devkit.
        covered: which part of nuScenes the samples are.
    """

    tables: Any
    covered: Coverage


@dataclass(frozen=True, kw_only=True, slots=True)
class ConditionResult:
    """What a detector makes of the samples under a condition.

    Args:
        condition: see there.
        summary: see `official_metrics.judge`.
        sensor_weights: means of LiDAR and cameras over all queries, -1 to 1; None without AQR.
        equals_clean: whether every detection is that on the clean samples, bit for bit.
    """

    condition: JudgedCondition
    summary: dict[str, Any]
    sensor_weights: tuple[float, float] | None = None
    equals_clean: bool = False


def folder_of(out: Path, condition: JudgedCondition) -> Path:
    """Return the folder of a condition; that of the clean samples is the evaluation's own."""
    return out if condition == CLEAN_SAMPLES else out / condition.name


def judge_conditions(
    detector: CmtDetector,
    store: FeatureStore,
    dataset: StoreDataset,
    conditions: Sequence[JudgedCondition],
    out: Path,
    *,
    truth: GroundTruthTables | None,
    workers: int,
    plot: Callable[[Judgement, Path], None],
) -> list[ConditionResult]:
    """Write results and metrics of every condition.

    Args:
        detector: to judge.
        store: the clean samples.
        dataset: all of them, and the same under conditions.
        conditions: the clean samples first.
        out: folder.
        truth: None writes the result JSON alone.
        workers: loader threads.
        plot: makes pictures in the folder of a condition.

    Returns:
        A result for every condition, none without `truth`.
    """
    processes = default_processes() if len(conditions) > 1 else 0
    detected = []
    with JudgingProcesses(processes) as judging:
        for condition in conditions:
            folder = folder_of(out, condition)
            prepare_folder(folder)
            samples = counted(len(dataset), "sample")
            log.info("%s: detecting in %s of %s", condition.name, samples, store.path)
            batches = evaluation_batches(
                dataset, EVALUATION_BATCH, workers, condition.absent, condition.stored
            )
            weights, results = MeanSensorWeights(), folder / RESULTS
            write_results(
                results, detect(detector, batches, store, weights), condition.used(store.preset)
            )
            if truth is None:
                continue
            equals_clean = folder != out and filecmp.cmp(results, out / RESULTS, shallow=False)
            detected.append((condition, weights.mean(), equals_clean))
            judging.judge(
                condition.name,
                partial(judge_results, results, truth, dataset.tokens, plot),
                judging_bytes(results),
            )
        summaries = judging.results()
    return [
        ConditionResult(
            condition=condition,
            summary=summary,
            sensor_weights=sensor_weights,
            equals_clean=equals_clean,
        )
        for (condition, sensor_weights, equals_clean), summary in zip(
            detected, summaries, strict=True
        )
    ]


def judging_bytes(results: Path) -> int:
    """Return the memory that judging a result JSON takes."""
    return MEMORY_PER_RESULT_BYTE * results.stat().st_size


def judge_results(
    results: Path,
    truth: GroundTruthTables,
    tokens: Sequence[str],
    plot: Callable[[Judgement, Path], None] | None = None,
) -> dict[str, Any]:
    """Judge a result JSON, write the metrics beside it and plot; return the summary."""
    folder = results.parent
    judgement = judge(results, truth.tables, truth.covered, tokens, folder)
    write_metrics(folder, results, judgement.summary)
    if plot is not None:
        plot(judgement, folder)
    summary: dict[str, Any] = _plain(judgement.summary)
    return summary


def _plain(value: Any) -> Any:
    """Return the devkit's dictionaries as such, without the defaults that keep it from pickling."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return value
