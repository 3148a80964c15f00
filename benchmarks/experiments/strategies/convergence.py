"""Train the recipes from the store and with live backbones; compare what they detect in the end.

    python -m shared.synthetic_nuscenes DATA --samples-per-scene 40
    START=runs/pretrain_tiny/shielded/tiny.pth          # of benchmarks.experiments.pretrain_tiny
    extract-features tiny --nuscenes DATA --version v1.0-mini --split mini_train --variants 3
        --checkpoint $START --store TRAIN               # and VAL, of mini_val
    python -m benchmarks.experiments.strategies.convergence TRAIN --held-out VAL --nuscenes DATA
        --checkpoint $START --start $START --called "weights that have seen no sweeps"

Every recipe is trained from the store with every seed, and live with the first ones (--live-seeds).
The same seed means the same samples, augmented variants, absent sensors, denoising noise and
starting weights, so that a cached and a live run differ only by the rounding of the features to
float16; the spread over seeds shows the noise. Every run is evaluated by nuscenes-devkit on
held-out scenes, and so are the head they start from and an untrained one. Without --start they
start from seeded weights, at the rates of the recipe tiny_from_scratch. Finished runs stay in
runs/convergence, and a second call only runs what is missing. Writes
benchmarks/results/convergence_NAME.json and docs/strategies.md.
"""

import argparse
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.console_scripts import run_console_script
from benchmarks.experiments.strategies.live_recipes import CACHED, LIVE
from benchmarks.experiments.strategies.measured_run import RESULT, Order
from benchmarks.experiments.strategies.report import RESULTS, machine, write_report
from benchmarks.experiments.strategies.run_strategy import run_strategy
from cache.reader import CachedFeatures
from shared.checkpoint.shipped_checkpoint import checkpoint_path
from shared.process.command import command_parser, run_command

OUT = Path("runs/convergence")
REPORTED = ("strategy", "seed", "steps", "mAP", "NDS", "loss", "cpu_seconds_per_step")


def orders(args: argparse.Namespace) -> list[Order]:
    """Return the requested runs; the live ones, which take longest, first."""
    seeds = range(args.seeds)
    live = [(LIVE + recipe, seed) for recipe in args.recipes for seed in seeds[: args.live_seeds]]
    cached = [(recipe, seed) for recipe in args.recipes for seed in seeds]
    return [
        Order(
            strategy=strategy,
            store=args.store,
            nuscenes=args.nuscenes,
            out=OUT / args.name / f"{strategy}_seed{seed}",
            steps=args.steps,
            batch_size=args.batch_size,
            seed=seed,
            checkpoint=args.checkpoint,
            start=args.start,
            held_out=args.held_out,
            at_scratch_rates=args.start is None,
        )
        for strategy, seed in (*live, *cached)
    ]


def finished(order: Order) -> dict[str, Any]:
    """Return the result of a run, which is started unless exactly this order has been run."""
    file = order.out / RESULT
    result = json.loads(file.read_text()) if file.exists() else {}
    if result.get("order") != order.words():
        result = run_strategy(order)
    return {name: result[name] for name in REPORTED}


def held_out_score(args: argparse.Namespace, run: Path, name: str) -> dict[str, float]:
    """Return mAP and NDS of a run or checkpoint on the held-out scenes."""
    out = OUT / args.name / f"{name}_held_out"
    where = ("--nuscenes", args.nuscenes)
    run_console_script("evaluate-stage2", args.held_out, run, "--out", out, *where)
    summary = json.loads((out / "metrics_summary.json").read_text())
    return {"mAP": summary["mean_ap"], "NDS": summary["nd_score"]}


def untrained(args: argparse.Namespace) -> Path:
    """Return a run of zero steps."""
    run = OUT / args.name / "untrained"
    recipe = ("--recipe", args.recipes[0], "--stop-after", 0)
    run_console_script("train-stage2", args.store, "--out", run, *recipe)
    return run


def options() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = command_parser(__doc__, "python -m benchmarks.experiments.strategies.convergence")
    parser.add_argument("store", type=Path, help="complete store")
    parser.add_argument("--nuscenes", type=Path, required=True, help="root it was made from")
    parser.add_argument("--held-out", type=Path, required=True, help="store to evaluate on")
    parser.add_argument("--recipes", nargs="+", choices=CACHED, default=CACHED)
    parser.add_argument("--steps", type=int, default=400, help="of each run (default 400)")
    parser.add_argument("--batch-size", type=int, default=4, help="default 4")
    parser.add_argument("--seeds", type=int, default=3, help="from the store (default 3)")
    parser.add_argument("--live-seeds", type=int, default=2, help="of these, live too (default 2)")
    parser.add_argument(
        "--checkpoint", type=checkpoint_path, help="that the store was made with, if with one"
    )
    parser.add_argument(
        "--start", type=checkpoint_path, help="run or checkpoint whose head all start from"
    )
    parser.add_argument("--called", default="a trained head", help="what the page calls the start")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once (default 1)")
    parser.add_argument("--name", default="head", help="of the result (default head)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, run what is missing, write the table."""
    args = options().parse_args(argv)

    def work() -> None:
        store, held_out = CachedFeatures(args.store), CachedFeatures(args.held_out)
        with ThreadPoolExecutor(args.jobs) as pool:
            runs = list(pool.map(finished, orders(args)))
        document = {
            "preset": store.preset.name,
            "samples": len(store.tokens),
            "variants": store.variants,
            "held_out_samples": len(held_out.tokens),
            "steps": args.steps,
            "batch_size": args.batch_size,
            "machine": machine(),
            "started_from": args.called if args.start else "seeded weights",
            "untrained": held_out_score(args, untrained(args), "untrained"),
            "start": held_out_score(args, args.start, "start") if args.start else None,
            "runs": runs,
        }
        file = RESULTS / f"convergence_{args.name}.json"
        file.write_text(json.dumps(document, indent=1) + "\n")
        print(write_report())

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
