"""Train the whole detector `tiny` on synthetic scenes; its backbones become worth freezing.

    python -m benchmarks.experiments.pretrain_tiny --out runs/pretrain_tiny

The same command continues an interrupted training. Writes, for every phase, the checkpoint with the
best mAP on held-out scenes, OUT/PHASE/tiny.pth, and at the end or when interrupted the curve,
benchmarks/results/pretrain_tiny.json. On busy cores, set OMP_NUM_THREADS=1: the tensors are small.
"""

import json
import sys
from pathlib import Path

from benchmarks.experiments.pretrain_tiny.phases import PHASES
from benchmarks.experiments.pretrain_tiny.pretraining import Pretraining
from benchmarks.experiments.strategies.report import RESULTS
from shared.config.preset_catalogue import tiny
from shared.process.command import command_parser, run_command
from shared.synthetic_nuscenes.world.synthetic_config import SyntheticConfig


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and train."""
    parser = command_parser(__doc__, "python -m benchmarks.experiments.pretrain_tiny")
    parser.add_argument("--out", type=Path, default=Path("runs/pretrain_tiny"))
    parser.add_argument(
        "--sets", type=int, default=12, help="scene sets to train on, ten scenes each (12)"
    )
    args = parser.parse_args(argv)

    def work() -> None:
        pretraining = Pretraining(
            out=args.out,
            preset=tiny(),
            phases=[make() for make in PHASES],
            seeds=range(1, args.sets + 1),
            world=SyntheticConfig(),
        )
        try:
            pretraining.run()
        finally:
            document = {"sets": args.sets, "curve": pretraining.curve()}
            (RESULTS / "pretrain_tiny.json").write_text(json.dumps(document, indent=1) + "\n")

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
