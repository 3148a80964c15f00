"""Compare training runs: what differs, how good each is, and which differences are real.

    compare-runs runs/*                                        # tables in the terminal
    compare-runs runs/lr                                       # all runs of a sweep
    compare-runs runs/* --nuscenes /data/nuscenes --out compared

Runs of the same code that differ only in their seed are repetitions, shown with their mean and
spread. Metrics come from validation during training, or from an evaluation in the run's folder
(evaluate-stage2 --out runs/a/val). With --nuscenes the detections of all runs in the same samples
are matched with true boxes as nuScenes does it, and every pair of runs gets a 95% interval of its
difference in mAP and NDS, from a paired bootstrap over scenes. --out writes comparison.md, a CSV of
every table, and comparison.html, a page with the curves that needs nothing else.
"""

import sys
from pathlib import Path

from shared.process.command import command_parser, ending_at_once, run_command

with ending_at_once():
    from stage2_train.comparison.compare import as_text, compare_runs, write_comparison_files
    from stage2_train.comparison.compared_run import PAGE


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and hand over; no work happens here."""
    parser = command_parser(__doc__, "compare-runs")
    parser.add_argument("runs", type=Path, nargs="+", help="run folders, or folders of sweeps")
    parser.add_argument("--nuscenes", type=Path, help="nuScenes root with the tables, for the test")
    parser.add_argument(
        "--evaluation",
        metavar="NAME",
        help="folder in each run whose detections to compare (default: the one that most runs "
        "have, first validation and val; one of training samples only if there is no other; where "
        "a run has val-2 beside val, the newest of these)",
    )
    parser.add_argument("--out", type=Path, help="folder for Markdown, CSV and the page")
    args = parser.parse_args(argv)

    def work() -> None:
        comparison = compare_runs(args.runs, args.nuscenes, evaluation=args.evaluation)
        print(as_text(comparison))
        if args.out is not None:
            write_comparison_files(comparison, args.out)
            print(f"\n{args.out / PAGE}")

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
