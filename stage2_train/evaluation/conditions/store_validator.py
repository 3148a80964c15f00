"""Measures a detector on a validation store while it trains: its loss, and the official metrics.

The loss is that of training without denoising queries: detector in eval mode, nothing random, the
mean over samples of the losses of batches of `EVALUATION_BATCH`. Processes divide whole batches
among themselves, so that the numbers do not depend on how many there are. With delta stores, all of
it is measured under their conditions as well.
"""

import contextlib
import math
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from shared.data.feature_store import ConditionedStore, FeatureStore
from shared.model.detector import CmtDetector
from shared.process.folder_lock import locked_folder
from stage2_train.data.conditioned_stores import by_condition, content_digests
from stage2_train.data.dataset import StoreDataset
from stage2_train.data.loader import EVALUATION_BATCH, BatchLoader, evaluation_places
from stage2_train.evaluation.conditions.condition_tables import write_condition_tables
from stage2_train.evaluation.conditions.judged_condition import (
    CLEAN_SAMPLES,
    JudgedCondition,
    judged_conditions,
)
from stage2_train.evaluation.conditions.judging import (
    ConditionResult,
    GroundTruthTables,
    folder_of,
    judge_results,
    judging_bytes,
)
from stage2_train.evaluation.conditions.judging_processes import JudgingProcesses, default_processes
from stage2_train.evaluation.conditions.measured_batch import MeasuredBatch, measure_batch
from stage2_train.evaluation.detections import write_results
from stage2_train.evaluation.evaluation_folder import LOCK, RESULTS, prepare_folder
from stage2_train.evaluation.official_metrics import require_truth
from stage2_train.evaluation.official_tables import coverage, open_tables
from stage2_train.evaluation.validation_samples import evenly_spread, require_validation_store


class StoreValidator:
    """A validation store, and how to judge detections in it.

    Args:
        store: complete, of the same extraction as the training store, without its samples.
        training: the training store.
        nuscenes_root: folder with the tables the store was made from; None for the loss alone.
        samples: how many the curve takes, see `evenly_spread`; None takes all.
        workers: loader threads.
        batch_size: samples per batch; the loss depends on it a little.
        conditions: delta stores of `store`.

    Raises:
        See `require_validation_store`, `by_condition` and `judged_conditions`.
    """

    def __init__(
        self,
        store: FeatureStore,
        training: FeatureStore,
        *,
        nuscenes_root: Path | None = None,
        samples: int | None = None,
        workers: int = 0,
        batch_size: int = EVALUATION_BATCH,
        conditions: Sequence[ConditionedStore] = (),
    ) -> None:
        require_validation_store(store, training)
        self.store = store
        self._deltas = by_condition(conditions)
        self._conditions = judged_conditions((), self._deltas, store)
        self._root, self._workers, self._batch_size = nuscenes_root, workers, batch_size
        # Of the whole store, and of the curve.
        self._tokens = {True: tuple(store.tokens), False: evenly_spread(store.tokens, samples)}
        self._truth: dict[bool, GroundTruthTables] = {}

    @property
    def identity(self) -> dict[str, Any]:
        """What the numbers are made from."""
        identity = {
            "store": [self.store.identity_digest, self.store.sources_digest],
            "official metrics": self._root is not None,
        }
        if self._deltas:
            identity["conditions"] = content_digests(self._deltas)
        return identity

    @property
    def statement(self) -> str:
        """Say which samples are measured, and how."""
        what = "loss" if self._root is None else "loss, mAP and NDS"
        curve, whole = len(self._tokens[False]), len(self._tokens[True])
        under = f", clean and under {', '.join(self._deltas)}" if self._deltas else ""
        return f"{what} of {curve} of the {whole} samples of {self.store.path}{under}"

    def prepare(self) -> None:
        """Open the tables, in the process that judges.

        Raises:
            DatasetError: if they are missing or do not fit the store.
        """
        if self._root is None:
            return
        tables = open_tables(self._root, self.store.identity["dataset"]["version"])
        for is_whole, tokens in self._tokens.items():
            covered = coverage(tables, tokens)
            require_truth(tables, self.store.path, tokens)
            self._truth[is_whole] = GroundTruthTables(tables=tables, covered=covered)

    def batches(self, *, is_whole: bool) -> int:
        """Return the number of batches of all samples, or of those for the curve."""
        return len(self._conditions) * self._batches_of_each(is_whole)

    def _batches_of_each(self, is_whole: bool) -> int:
        return math.ceil(len(self._tokens[is_whole]) / self._batch_size)

    def measure(
        self, detector: CmtDetector, *, is_whole: bool, process: int, processes: int
    ) -> Iterator[MeasuredBatch]:
        """Yield what the detector makes of every batch of this process.

        Args:
            detector: in eval mode, on the device that computes.
            is_whole: all samples, or those for the curve.
            process: which of all.
            processes: how many there are.
        """
        dataset = StoreDataset(self.store, self._tokens[is_whole], self._deltas)
        places = [
            batch
            for condition in self._conditions
            for batch in evaluation_places(
                len(dataset), self._batch_size, condition=condition.stored
            )
        ][process::processes]
        needs_boxes = is_whole or self._root is not None
        for index, batch in enumerate(BatchLoader(dataset, places, self._workers)):
            number = process + index * processes
            condition = self._conditions[number // self._batches_of_each(is_whole)]
            moved = batch.to(detector.device)
            boxes_of = self.store if needs_boxes else None
            yield measure_batch(detector, moved, number, condition.name, boxes_of)

    def judge(
        self, measured: list[MeasuredBatch], *, is_whole: bool, out: Path | None
    ) -> dict[str, float | None]:
        """Return the scores of what all processes have measured.

        Args:
            measured: all batches, in any order; emptied, as a batch is dropped once it is written.
            is_whole: see `measure`.
            out: folder for what `evaluate-stage2` writes; None keeps nothing.

        Returns:
            `samples`, `loss`, `mAP` and `NDS`; the last two are None without tables, and if the
            loss is not finite, since then nothing was detected. With conditions also, under the
            name of each, `loss/NAME`, `mAP/NAME` and `NDS/NAME`, and `mean_NDS` over all of them
            and the clean samples.

        Raises:
            ConfigError: if another process evaluates into `out`.
        """
        own: dict[str, list[MeasuredBatch]] = defaultdict(list)
        while measured:
            own[measured[-1].condition].append(measured.pop())
        losses = {name: _mean_loss(batches) for name, batches in own.items()}
        with contextlib.ExitStack() as opened:
            if out is None:
                folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
            else:
                folder = out
                opened.enter_context(locked_folder(folder, LOCK))
            wanted = self._conditions if out is not None or self._truth else ()
            detected = [condition for condition in wanted if math.isfinite(losses[condition.name])]
            results = self._judged(own, detected, folder, is_whole)
            has_all = len(results) == len(self._conditions)
            if out is not None and has_all and len(results) > 1:
                write_condition_tables(out, results)
        summaries = {result.condition: result.summary for result in results}
        scores: dict[str, float | None] = {"samples": len(self._tokens[is_whole])}
        for condition in self._conditions:
            scores |= _scores(condition, losses[condition.name], summaries.get(condition))
        if len(self._conditions) > 1:
            each = [summary["nd_score"] for summary in summaries.values()]
            scores["mean_NDS"] = fmean(each) if has_all else None
        return scores

    def _write(self, measured: Iterable[MeasuredBatch], folder: Path) -> Path:
        """Write what is detected under a condition; return the result JSON."""
        prepare_folder(folder)
        ordered = sorted(measured, key=lambda batch: batch.index)
        results = (
            (token, boxes.entries())
            for batch in ordered
            for token, boxes in batch.detections.items()
        )
        write_results(folder / RESULTS, results, self.store.preset)
        return folder / RESULTS

    def _judged(
        self,
        own: dict[str, list[MeasuredBatch]],
        conditions: Sequence[JudgedCondition],
        out: Path,
        is_whole: bool,
    ) -> list[ConditionResult]:
        """Write each condition's result JSON, and judge it while the next one is written.

        `own` has the batches by condition; those that are written are taken out.
        """
        truth, tokens = self._truth.get(is_whole), self._tokens[is_whole]
        with JudgingProcesses(default_processes() if len(conditions) > 1 else 0) as judging:
            for condition in conditions:
                file = self._write(own.pop(condition.name), folder_of(out, condition))
                if truth is not None:
                    call = partial(judge_results, file, truth, tokens)
                    judging.judge(condition.name, call, judging_bytes(file))
            judged = conditions if truth is not None else ()
            return [
                ConditionResult(condition=condition, summary=summary)
                for condition, summary in zip(judged, judging.results(), strict=True)
            ]


def _mean_loss(measured: Iterable[MeasuredBatch]) -> float:
    """Return the mean over samples, added up in the order of the batches."""
    ordered = sorted(measured, key=lambda batch: batch.index)
    total = sum(batch.loss * batch.samples for batch in ordered)
    return total / sum(batch.samples for batch in ordered)


def _scores(
    condition: JudgedCondition, loss: float, summary: Mapping[str, Any] | None
) -> dict[str, float | None]:
    """Return the scores under a condition, whose name they bear unless it is the clean samples."""
    metrics = {
        "loss": loss,
        "mAP": None if summary is None else summary["mean_ap"],
        "NDS": None if summary is None else summary["nd_score"],
    }
    if condition == CLEAN_SAMPLES:
        return metrics
    return {f"{name}/{condition.name}": value for name, value in metrics.items()}
