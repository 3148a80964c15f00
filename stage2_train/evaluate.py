"""Detect objects from a feature store and a checkpoint; score them as nuScenes does.

    evaluate-stage2 /data/r50_val.zarr runs/a --out runs/a/val --nuscenes /data/nuscenes
    evaluate-stage2 /data/r50_val.zarr cmt.pth --out val --nuscenes /data/nuscenes
    evaluate-stage2 val.zarr runs/a --out val --nuscenes ROOT --drop lidar cameras each-camera
    evaluate-stage2 --results submission.json --nuscenes /data/nuscenes --out judged

Writes results_nusc.json, which the official tool accepts; with --nuscenes (a root that has the
tables) also the official metrics, by class and by distance (metrics_summary.json, metrics.txt), and
pictures. With --drop the same again without these sensors, in folders, and sensor_drop.md.
--results scores any submission: no store, no checkpoint.
"""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from cache.reader import CachedFeatures
from cache.storage.location import store_path
from shared.data.sensor_drop import NOTHING, Absent
from shared.errors import ConfigError
from shared.model.box_coder import decode_boxes
from shared.model.detector import CmtDetector
from shared.process.command import run_command
from shared.process.whole_file import whole_file
from stage2_train.data.dataset import StoreDataset
from stage2_train.data.loader import evaluation_batches
from stage2_train.evaluation.detections import to_nuscenes, write_results
from stage2_train.evaluation.drop_conditions import (
    COMPARISON,
    DROPS,
    FULL,
    conditions,
    write_comparison,
)
from stage2_train.evaluation.metric_tables import metrics_as_text
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

BATCH_SIZE = 4
RESULTS = "results_nusc.json"
TABLES = "metrics.txt"


@torch.inference_mode()
def detect(
    detector: CmtDetector, store: CachedFeatures, *, absent: Absent = NOTHING, workers: int = 0
) -> dict[str, list[dict[str, Any]]]:
    """Return nuScenes result entries for every sample of a store, without the absent sensors."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    detector.to(device).eval()
    batches = evaluation_batches(StoreDataset(store, store.tokens), BATCH_SIZE, workers, absent)
    results = {}
    for batch in tqdm(batches, unit="batch", disable=None):
        found = decode_boxes(detector(batch.to(device)), store.preset.head)
        for token, one in zip(batch.tokens, found, strict=True):
            results[token] = to_nuscenes(one, store.frame(token))
    return results


def evaluate(
    store: CachedFeatures,
    detector: CmtDetector,
    out: Path,
    *,
    nuscenes_root: Path | None = None,
    drops: Sequence[str] = (),
    drawn: PlotChoice = 0,
    workers: int = 0,
) -> dict[str, Any]:
    """Write the result JSON and, where the tables are, the official metrics.

    Args:
        store: a complete store.
        detector: of `load_detector`.
        out: folder to write to.
        nuscenes_root: folder with the tables the store was made from; None for no metrics.
        drops: among `drop_conditions.DROPS`: evaluate without these sensors, too.
        drawn: samples to draw, see `evaluation_pictures`; needs the tables.
        workers: loader threads.

    Returns:
        The metrics summary with all sensors, empty without tables.

    Raises:
        CacheError: if the store is incomplete, or has no null features to drop a sensor with.
        ConfigError: if a sensor cannot be dropped or a sample not be drawn.
        DatasetError: if the tables do not fit.
    """
    store.require_complete()
    wanted = conditions(drops, store)
    tables = covered = None
    if nuscenes_root is not None:
        require_plottable(drawn, store.tokens)
        tables = open_tables(nuscenes_root, store.identity["dataset"]["version"])
        covered = coverage(tables, store.tokens)
    summaries = {}
    for condition in wanted:
        folder = out if condition == FULL else out / condition.name
        folder.mkdir(parents=True, exist_ok=True)
        log.info("%s: detecting in %d samples of %s", condition.name, len(store.tokens), store.path)
        found = detect(detector, store, absent=condition.absent, workers=workers)
        write_results(folder / RESULTS, found, condition.used(store.preset))
        if covered is not None:
            summaries[condition.name] = _judged(
                folder / RESULTS, tables, covered, store.tokens, folder, drawn
            )
    if len(summaries) > 1:
        write_comparison(out, summaries)
    return summaries.get(FULL.name, {})


def evaluate_submission(
    results: Path, nuscenes_root: Path, out: Path, *, drawn: PlotChoice = 0
) -> dict[str, Any]:
    """Score any submission, whoever wrote it, on the samples it has.

    Returns:
        The metrics summary.

    Raises:
        ConfigError: if a sample to draw is not in it.
        DatasetError: if it is no submission, or the tables do not know its samples.
    """
    submission = read_submission(results)
    tokens = submission.tokens
    require_plottable(drawn, tokens)
    tables = open_tables(nuscenes_root, version_of(nuscenes_root, tokens, results))
    covered = coverage(tables, tokens)
    log.info("%s: %d boxes in %s", results, submission.boxes, covered.statement())
    out.mkdir(parents=True, exist_ok=True)
    return _judged(results, tables, covered, tokens, out, drawn)


def _judged(
    results: Path,
    tables: Any,
    covered: Coverage,
    tokens: Sequence[str],
    out: Path,
    drawn: PlotChoice,
) -> dict[str, Any]:
    """Score one result JSON, write its tables and pictures; return its summary."""
    judged = judge(results, tables, covered, tokens, out)
    with whole_file(out / TABLES, "w") as file:
        file.write(f"{results}\n{metrics_as_text(judged.summary)}\n")
    plot_evaluation(judged, tables, drawn, out / "pictures")
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
        "run", type=Path, nargs="?", help="run folder, or checkpoint of train-stage2 or CMT"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for results and metrics")
    parser.add_argument("--nuscenes", type=Path, help="nuScenes root with the tables, for metrics")
    parser.add_argument("--results", type=Path, help="score this submission; no store, no run")
    parser.add_argument(
        "--drop", nargs="+", choices=DROPS, default=[], help="evaluate without these sensors, too"
    )
    parser.add_argument(
        "--draw",
        type=parse_plots,
        default=3,
        help="how many of the worst samples to draw (default 3, 0 for no pictures), or tokens "
        "separated by commas",
    )
    parser.add_argument("--workers", type=int, default=0, help="loader threads")
    args = parser.parse_intermixed_args(argv)  # options may also come before the store
    return run_command(lambda: _work(args))


def _work(args: argparse.Namespace) -> None:
    if args.results is not None:
        if args.store is not None or args.drop:
            raise ConfigError(
                "--results scores a finished submission, so there is no store, no run and nothing "
                "to --drop; leave them out, or leave --results out to detect from the store"
            )
        if args.nuscenes is None:
            raise ConfigError("--results needs --nuscenes: the root with the ground truth")
        summary = evaluate_submission(args.results, args.nuscenes, args.out, drawn=args.draw)
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
            drawn=args.draw,
            workers=args.workers,
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
