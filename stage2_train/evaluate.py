"""Detect objects from a feature store and a checkpoint; score them as nuScenes does.

    evaluate-stage2 /data/r50_val.zarr runs/a --out runs/a/val --nuscenes /data/nuscenes
    evaluate-stage2 /data/r50_val.zarr cmt.pth --out val --nuscenes /data/nuscenes
    evaluate-stage2 val.zarr runs/a --out val --nuscenes ROOT --drop lidar cameras each-camera
    evaluate-stage2 --results submission.json --nuscenes /data/nuscenes --out judged

Writes results_nusc.json, which the official tool accepts; with --nuscenes (a root that has the
tables) also the official metrics, by class and by distance (metrics_summary.json, metrics.txt), and
pictures. With --drop also the same without these sensors, in subfolders, and sensor_drop.md.
--results scores any submission: no store, no checkpoint.
"""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cache.reader import CachedFeatures
from cache.storage.location import store_path
from shared.checkpoint.shipped_checkpoint import checkpoint_path
from shared.data.feature_store import FeatureStore
from shared.errors import ConfigError
from shared.model.detector import CmtDetector
from shared.process.command import run_command
from shared.process.folder_lock import locked_folder
from shared.process.number_options import whole_number
from stage2_train.data.dataset import StoreDataset
from stage2_train.data.loader import (
    EVALUATION_BATCH,
    WORKERS_HELP,
    default_workers,
    evaluation_batches,
)
from stage2_train.evaluation.detections import detect, write_results
from stage2_train.evaluation.drop_conditions import (
    COMPARISON,
    DROPS,
    FULL,
    DropCondition,
    conditions,
    write_comparison,
)
from stage2_train.evaluation.evaluation_folder import (
    LOCK,
    RESULTS,
    TABLES,
    prepare_folder,
    write_metrics,
)
from stage2_train.evaluation.official_metrics import judge
from stage2_train.evaluation.official_tables import Coverage, coverage, open_tables, version_of
from stage2_train.evaluation.submission import read_submission
from stage2_train.plots.evaluation_plots import (
    PlotChoice,
    parse_plots,
    plot_evaluation,
    require_plottable,
)
from stage2_train.run.trained_detector import load_detector

log = logging.getLogger(__name__)


def evaluate(
    store: FeatureStore,
    detector: CmtDetector,
    out: Path,
    *,
    nuscenes_root: Path | None = None,
    drops: Sequence[str] = (),
    plots: PlotChoice = 0,
    workers: int = 0,
) -> dict[str, Any]:
    """Write the result JSON and, with the tables, the official metrics.

    Args:
        store: a complete store.
        detector: of `load_detector`.
        out: folder to write to.
        nuscenes_root: folder with the tables the store was made from; None for no metrics.
        drops: among `drop_conditions.DROPS`: also evaluate without these sensors.
        plots: samples to plot, see `evaluation_plots`; needs the tables.
        workers: loader threads.

    Returns:
        The metrics summary with all sensors, empty without tables.

    Raises:
        CacheError: if the store is incomplete, or has no null features to drop a sensor with.
        ConfigError: if a sensor cannot be dropped or a sample not be plotted, or if another
            process evaluates into this folder.
        DatasetError: if the tables do not fit.
    """
    store.require_complete()
    wanted = conditions(drops, store)
    with locked_folder(out, LOCK):
        return _evaluate(store, detector, out, wanted, nuscenes_root, plots, workers)


def _evaluate(
    store: FeatureStore,
    detector: CmtDetector,
    out: Path,
    wanted: Sequence[DropCondition],
    nuscenes_root: Path | None,
    plots: PlotChoice,
    workers: int,
) -> dict[str, Any]:
    """Evaluate under every condition; see `evaluate`."""
    tables = covered = None
    if nuscenes_root is not None:
        require_plottable(plots, store.tokens)
        tables = open_tables(nuscenes_root, store.identity["dataset"]["version"])
        covered = coverage(tables, store.tokens)
    dataset, summaries = StoreDataset(store, store.tokens), {}
    for condition in wanted:
        folder = out if condition == FULL else out / condition.name
        prepare_folder(folder)
        log.info("%s: detecting in %d samples of %s", condition.name, len(store.tokens), store.path)
        batches = evaluation_batches(dataset, EVALUATION_BATCH, workers, condition.absent)
        results = detect(detector, batches, store)
        write_results(folder / RESULTS, results, condition.used(store.preset))
        if covered is not None:
            summaries[condition.name] = _judged(
                folder / RESULTS, tables, covered, store.tokens, folder, plots
            )
    if len(summaries) > 1:
        write_comparison(out, summaries)
    return summaries.get(FULL.name, {})


def evaluate_submission(
    results: Path, nuscenes_root: Path, out: Path, *, plots: PlotChoice = 0
) -> dict[str, Any]:
    """Score any submission on the samples it has.

    Returns:
        The metrics summary.

    Raises:
        ConfigError: if a sample to plot is not in it, or another process evaluates into `out`.
        DatasetError: if it is no valid submission, or its samples are not in the tables.
    """
    submission = read_submission(results)
    tokens = submission.tokens
    require_plottable(plots, tokens)
    tables = open_tables(nuscenes_root, version_of(nuscenes_root, tokens, results))
    covered = coverage(tables, tokens)
    log.info("%s: %d boxes in %s", results, submission.boxes, covered.statement())
    with locked_folder(out, LOCK):
        prepare_folder(out)
        return _judged(results, tables, covered, tokens, out, plots)


def _judged(
    results: Path,
    tables: Any,
    covered: Coverage,
    tokens: Sequence[str],
    out: Path,
    plots: PlotChoice,
) -> dict[str, Any]:
    """Score one result JSON, write its tables and pictures; return its summary."""
    judged = judge(results, tables, covered, tokens, out)
    write_metrics(out, results, judged.summary)
    plot_evaluation(judged, tables, plots, out / "pictures")
    return judged.summary


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and hand over; no work happens here."""
    parser = argparse.ArgumentParser(
        prog="evaluate-stage2",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("store", type=store_path, nargs="?", help="complete feature store")
    parser.add_argument(
        "run",
        type=checkpoint_path,
        nargs="?",
        help="run folder, or checkpoint of train-stage2 or CMT",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for results and metrics")
    parser.add_argument("--nuscenes", type=Path, help="nuScenes root with the tables, for metrics")
    parser.add_argument("--results", type=Path, help="score this submission; no store, no run")
    parser.add_argument(
        "--drop", nargs="+", choices=DROPS, default=[], help="also evaluate without these sensors"
    )
    parser.add_argument(
        "--plot",
        type=parse_plots,
        default=3,
        help="how many of the worst samples to plot (default 3, 0 for no pictures), or tokens "
        "separated by commas",
    )
    parser.add_argument("--workers", type=whole_number(0), help=WORKERS_HELP % ("", ""))
    args = parser.parse_intermixed_args(argv)  # options may also come before the store
    return run_command(lambda: _work(args))


def _work(args: argparse.Namespace) -> None:
    if args.results is not None:
        if args.store is not None or args.drop:
            raise ConfigError(
                "--results scores a finished submission, so it takes no store, no run and no "
                "--drop; omit those, or omit --results to detect from the store"
            )
        if args.nuscenes is None:
            raise ConfigError("--results needs --nuscenes: the root with the ground truth")
        summary = evaluate_submission(args.results, args.nuscenes, args.out, plots=args.plot)
        results = args.results
    else:
        if args.store is None or args.run is None:
            raise ConfigError(
                "expected a store and a run (evaluate-stage2 STORE RUN --out DIR), or --results "
                f"FILE with --nuscenes ROOT; got {'no run' if args.store else 'neither'}"
            )
        store = CachedFeatures(args.store)
        summary = evaluate(
            store,
            load_detector(args.run, store),
            args.out,
            nuscenes_root=args.nuscenes,
            drops=args.drop,
            plots=args.plot,
            workers=default_workers() if args.workers is None else args.workers,
        )
        results = args.out / RESULTS
    if summary:
        print((args.out / TABLES).read_text())
    if summary and args.drop:
        print((args.out / COMPARISON).read_text())
    print(results)
    if summary:
        short = {key: summary[key] for key in ("mean_ap", "nd_score", "samples", "split")}
        print(json.dumps(short))


if __name__ == "__main__":
    sys.exit(main())
