"""Measure an extraction stage by stage and as a whole, against the limits of the machine.

    python -m benchmarks.speed.extraction                    # real frames if they are there
    python -m benchmarks.speed.extraction --preset vov_1600x640 --samples 16
    python -m benchmarks.speed.extraction --processes 1 2 --batch-size 8 4 --minutes 4    # a GPU
    python -m benchmarks.speed.extraction --quick            # a rehearsal: tiny, a few samples
    python -m benchmarks.speed.extraction --paste FILE       # measures nothing: FILE's tables

Runs on a GPU where there is one, else on the CPU. Whether the goal is met is measured first. Writes
benchmarks/results/extraction.json, or extraction_gpu.json, whenever there is more in it, and at the
end the tables in docs/speed.md between the markers of that kind of device (with --quick only a file
that --json names). Times are per sample; a stage counts in its fastest pass. Trust processor time,
and ratios within a run, where other jobs use the cores. TMPDIR names the disk of the stores.

Whole extractions run in processes of their own, as from `extract-features` and torchrun. The time
until every process has written a shard is their start; the rate after that is compared with the
limits. On a GPU shards are those of a user's store; on a CPU they have two rows, so that computing
and writing overlap also in the few samples that there is time for.
"""

import argparse
import json
import math
import tempfile
import warnings
from pathlib import Path

from benchmarks.speed.extraction.benchmark_frames import benchmark_frames
from benchmarks.speed.extraction.extraction_document import (
    Combination,
    Document,
    Subject,
    measure,
)
from benchmarks.speed.extraction.extraction_table import in_page, table
from benchmarks.speed.extraction.timed_extraction import WorkerTask
from benchmarks.speed.gpu.cases import Cases
from shared.config.preset_catalogue import load_preset
from shared.process.command import command_parser
from shared.process.cores import available_cores
from shared.process.device import available_device
from shared.process.number_options import real_number, whole_number
from stage1_extract.backbones.live import LiveFeatures
from stage1_extract.backbones.weights import frozen_backbones
from stage1_extract.extraction.stages.stage_widths import default_batch_size

PAGE = Path("docs/speed.md")
RESULTS = {
    "cpu": Path("benchmarks/results/extraction.json"),
    "cuda": Path("benchmarks/results/extraction_gpu.json"),
}
REAL = Path("../shared/nuscenes_real")
SAMPLES = {"cpu": 12, "cuda": 960}  # of a GPU: 120 shards of r50, ten seconds or more


def options() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = command_parser(__doc__, "python -m benchmarks.speed.extraction")
    count = whole_number(1)
    parser.add_argument("--preset", default="r50_800x320", help="default r50_800x320")
    parser.add_argument("--samples", type=count, help="default 12, on a GPU 960")
    parser.add_argument(
        "--batch-size",
        type=count,
        nargs="+",
        help="on a GPU, several one after the other; default as extract-features",
    )
    parser.add_argument("--passes", type=count, default=3, help="over the stages, default 3")
    parser.add_argument(
        "--processes",
        type=count,
        nargs="+",
        default=[1],
        help="worker processes that share the device, several numbers one after the other; "
        "default 1",
    )
    parser.add_argument(
        "--workers",
        type=whole_number(0),
        nargs="+",
        help="loader processes, divided among the worker processes, at least one each; 0 loads in "
        "a thread of each. Default 0, on a GPU one per core",
    )
    parser.add_argument(
        "--minutes",
        type=real_number(0),
        default=math.inf,
        help="what does not fit is left out: first the writing side's memory, then the stages, "
        "then the last batch sizes and numbers of processes",
    )
    parser.add_argument("--real", type=Path, default=REAL, help=f"real frames, default {REAL}")
    parser.add_argument(
        "--json", type=Path, help=f"default {RESULTS['cpu']}, on a GPU {RESULTS['cuda']}"
    )
    parser.add_argument("--quick", action="store_true", help="a rehearsal; keeps no number")
    parser.add_argument("--paste", type=Path, metavar="FILE", help="an earlier run's JSON")
    return parser


def run(args: argparse.Namespace, folder: Path, cases: Cases) -> Document:
    """Measure everything."""
    preset, device = load_preset(args.preset), available_device()
    samples = args.samples or SAMPLES[device.type]
    batches = args.batch_size or [default_batch_size(preset, device, max(args.processes))]
    source, records = benchmark_frames(folder, args.real, samples)
    frozen, _ = frozen_backbones(preset, None)
    subject = Subject(
        live=LiveFeatures(records, frozen),
        records=records,
        task=WorkerTask(
            preset=args.preset,
            folder=str(folder),
            real=str(args.real),
            samples=samples,
            store=str(folder / "whole.zarr"),
            batch_size=1 if device.type == "cpu" else batches[0],
            workers=0,
        ),
        source=source,
        passes=args.passes,
        is_rehearsal=args.quick,
    )
    loaders = args.workers or [0 if device.type == "cpu" else available_cores()]
    combinations = [
        Combination(processes=processes, workers=number, batch_size=batch)
        for batch in batches
        for processes in args.processes
        for number in loaders
    ]
    file: Path = args.json or RESULTS[device.type]

    def save(document: Document) -> None:
        if args.json or not args.quick:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(document, indent=1) + "\n")

    return measure(subject, combinations, cases, save)


def main(argv: list[str] | None = None) -> None:
    """Measure, print the table, and keep it."""
    args = options().parse_args(argv)
    if args.paste:
        document = json.loads(args.paste.read_text())
    else:
        if args.quick:
            args.preset, args.passes = "tiny", 1
            args.samples = args.samples or 16
        warnings.simplefilter("ignore")  # of other packages
        with tempfile.TemporaryDirectory(prefix="benchmark-extraction-") as folder:
            cases = Cases(Path(folder) / "cases.jsonl", args.minutes * 60)
            document = run(args, Path(folder), cases)
    print(table(document))
    if not args.quick:
        PAGE.write_text(in_page(PAGE.read_text(), document))


if __name__ == "__main__":
    main()
