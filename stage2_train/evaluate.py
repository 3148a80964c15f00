r"""Detect objects from a feature store and a checkpoint; score them as nuScenes does.

    evaluate-stage2 /data/r50_val.zarr runs/a --out runs/a/val --nuscenes /data/nuscenes
    evaluate-stage2 /data/r50_val.zarr cmt.pth --out val --nuscenes /data/nuscenes
    evaluate-stage2 val.zarr runs/a --out val --nuscenes ROOT --drop lidar cameras each-camera
    evaluate-stage2 val.zarr runs/a --out val --nuscenes ROOT --conditions val.*.zarr \
        --baseline runs/cmt       # or a CSV file of published numbers: family,severity,NDS
    evaluate-stage2 --results submission.json --nuscenes /data/nuscenes --out judged

Writes results_nusc.json, which the official tool accepts; with --nuscenes (a root that has the
tables) also the official metrics, by class and by distance (metrics_summary.json, metrics.txt), and
pictures. With --drop also the same without these sensors, with --conditions also under the
conditions of these delta stores, each in a subfolder; then conditions.md compares them (also as
.json and .csv, and conditions.png). --results scores any submission: no store, no checkpoint.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.process.command import command_parser, ending_at_once, run_command

with ending_at_once():
    from cache.delta.open_features import open_delta
    from cache.reader import CachedFeatures
    from cache.storage.location import add_deltas_option, store_path
    from shared.checkpoint.shipped_checkpoint import checkpoint_path, require_existing
    from shared.data.feature_store import FeatureStore
    from shared.errors import ConfigError
    from shared.process.number_options import whole_number
    from stage2_train.data.loading_options import WORKERS_HELP
    from stage2_train.evaluation.conditions.judged_condition import DROPS
    from stage2_train.evaluation.conditions.published_baseline import read_published_baseline
    from stage2_train.evaluation.evaluation_folder import RESULTS, TABLES
    from stage2_train.plots.plot_choice import parse_plots

if TYPE_CHECKING:
    from stage2_train.evaluation.conditions.score_baseline import BaselineDetector, ScoreBaseline


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and hand over; no work happens here."""
    parser = command_parser(__doc__, "evaluate-stage2")
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
    add_deltas_option(
        parser,
        "--conditions",
        "also evaluate under the conditions of these delta stores of the store",
    )
    parser.add_argument(
        "--baseline",
        type=checkpoint_path,
        metavar="RUN|CSV",
        help="compare with this run or checkpoint, evaluated under the same conditions, or with "
        "the numbers in this .csv file (columns family, severity and NDS)",
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
    summary = _evaluated(args) if args.results is None else _scored(args)
    if summary:
        print((args.out / TABLES).read_text())
    if summary and (args.drop or args.conditions):
        from stage2_train.evaluation.conditions.condition_tables import COMPARISON

        print((args.out / COMPARISON).read_text())
    print(args.results or args.out / RESULTS)
    if summary:
        short = {key: summary[key] for key in ("mean_ap", "nd_score", "samples", "split")}
        print(json.dumps(short))


def _evaluated(args: argparse.Namespace) -> dict[str, Any]:
    """Evaluate a detector."""
    if args.store is None or args.run is None:
        raise ConfigError(
            "expected a store and a run (evaluate-stage2 STORE RUN --out DIR), or --results "
            f"FILE with --nuscenes ROOT; got {'no run' if args.store else 'neither'}"
        )
    if args.baseline is not None and (args.nuscenes is None or not (args.conditions or args.drop)):
        raise ConfigError(
            "--baseline compares NDS under conditions: it needs --nuscenes, and delta stores with "
            "--conditions, or --drop"
        )
    require_existing(args.run)
    store = CachedFeatures(args.store)
    conditions = [open_delta(path, store) for path in args.conditions]
    with ending_at_once():  # only now, since they take seconds
        from stage2_train.data.loader import default_workers
        from stage2_train.run.trained_detector import load_detector
        from stage2_train.store_evaluation import evaluate
    return evaluate(
        store,
        load_detector(args.run, store),
        args.out,
        nuscenes_root=args.nuscenes,
        drops=args.drop,
        conditions=conditions,
        baseline=_baseline(args.baseline, store),
        plots=args.plot,
        workers=default_workers() if args.workers is None else args.workers,
        name=f"{args.run} on {args.store}",
    )


def _baseline(path: Path | None, store: FeatureStore) -> "ScoreBaseline | BaselineDetector | None":
    """Open what is compared with: a table by its name, else a detector."""
    if path is None:
        return None
    from stage2_train.evaluation.conditions.score_baseline import BaselineDetector, ScoreBaseline
    from stage2_train.run.trained_detector import load_detector

    if path.suffix == ".csv":
        numbers = read_published_baseline(path)
        return ScoreBaseline(name=str(path), numbers=numbers, is_published=True)
    return BaselineDetector(name=str(path), detector=load_detector(path, store))


def _scored(args: argparse.Namespace) -> dict[str, Any]:
    """Score a finished submission."""
    if args.store is not None or args.drop or args.conditions or args.baseline:
        raise ConfigError(
            "--results scores a finished submission, so it takes no store, no run and no --drop, "
            "--conditions or --baseline; omit those, or omit --results to detect from the store"
        )
    if args.nuscenes is None:
        raise ConfigError("--results needs --nuscenes: the root with the ground truth")
    with ending_at_once():
        from stage2_train.store_evaluation import evaluate_submission
    return evaluate_submission(args.results, args.nuscenes, args.out, plots=args.plot)


if __name__ == "__main__":
    sys.exit(main())
