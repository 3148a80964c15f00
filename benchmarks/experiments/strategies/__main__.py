"""Run the strategies, each in a process of its own, and write the table that compares them.

    STRATEGIES="python -m benchmarks.experiments.strategies runs/demo/train.zarr"
    $STRATEGIES --nuscenes runs/demo/nuscenes --checkpoint tiny --steps 100
    $STRATEGIES ... --start tiny --held-out runs/demo/val.zarr
    $STRATEGIES ... --at-scratch-rates --steps 1200 --batch-size 4 --name scratch

From the store: frozen_a, frozen_b, frozen_all, aqr_only. With the backbones in every step:
live_frozen_a (frozen_a without a store), finetune_low and finetune (frozen_a that also trains the
backbones). All take the same samples in the same order. Writes
benchmarks/results/strategies_PRESET.json, and rewrites docs/strategies.md and its pictures from all
such results. Runs stay in runs/strategies.
"""

import argparse
import json
import sys
from pathlib import Path

from benchmarks.experiments.strategies.live_recipes import CACHED
from benchmarks.experiments.strategies.measured_run import Order
from benchmarks.experiments.strategies.report import RESULTS, machine, write_report
from benchmarks.experiments.strategies.run_strategy import run_strategy
from cache.reader import CachedFeatures
from shared.checkpoint.shipped_checkpoint import checkpoint_path
from shared.process.command import command_parser, run_command

STRATEGIES = (*CACHED, "live_frozen_a", "finetune_low", "finetune")
OUT = Path("runs/strategies")


def options() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = command_parser(__doc__, "python -m benchmarks.experiments.strategies")
    parser.add_argument("store", type=Path, help="complete store")
    parser.add_argument("--nuscenes", type=Path, required=True, help="root it was made from")
    parser.add_argument("--steps", type=int, default=100, help="of each strategy (default 100)")
    parser.add_argument("--batch-size", type=int, default=2, help="default 2")
    parser.add_argument(
        "--checkpoint", type=checkpoint_path, help="that the store was made with, if with one"
    )
    parser.add_argument(
        "--start", type=checkpoint_path, help="run or checkpoint whose head all start from"
    )
    parser.add_argument("--held-out", type=Path, help="store to evaluate on")
    parser.add_argument(
        "--at-scratch-rates",
        action="store_true",
        help="use the rates of the recipe tiny_from_scratch, to learn from scratch",
    )
    parser.add_argument("--only", nargs="+", choices=STRATEGIES, default=STRATEGIES)
    parser.add_argument("--name", help="of the result (default that of the preset)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, run every strategy, write the table."""
    args = options().parse_args(argv)

    def work() -> None:
        preset = CachedFeatures(args.store).preset.name
        name = args.name or preset
        rows = [
            run_strategy(
                Order(
                    strategy=strategy,
                    store=args.store,
                    nuscenes=args.nuscenes,
                    out=OUT / name / strategy,
                    steps=args.steps,
                    batch_size=args.batch_size,
                    checkpoint=args.checkpoint,
                    start=args.start,
                    held_out=args.held_out,
                    at_scratch_rates=args.at_scratch_rates,
                )
            )
            for strategy in args.only
        ]
        for row in rows:
            del row["order"]  # it names files of this machine
        document = {
            "preset": preset,
            "samples": len(CachedFeatures(args.store).tokens),
            "steps": args.steps,
            "batch_size": args.batch_size,
            "machine": machine(),
            "started_from": "a trained head" if args.start else "seeded weights",
            "rates": "from scratch" if args.at_scratch_rates else "of the recipe",
            "strategies": rows,
        }
        file = RESULTS / f"strategies_{name}.json"
        file.write_text(json.dumps(document, indent=1) + "\n")
        print(write_report())

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
