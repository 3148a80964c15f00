"""The options of commands that load samples of a store: which, and by what; read without torch."""

import argparse
from pathlib import Path

from shared.process.number_options import share, whole_number
from stage2_train.data.subset import Share, Subset

THREADS, PROCESS = LOADERS = ("threads", "process")
LOADER_HELP = (
    "where --workers threads load: in the process that trains, or in a process of its own, so that "
    "they do not share Python's lock with the thread that queues a GPU's work; that takes twice "
    "the memory for batches. Default: threads. The result is the same"
)
WORKERS_HELP = (
    "loader threads%s; 0 loads in the thread that computes. Default: of the cores that this "
    "process may use%s, all but one and at most 8 with a GPU, half of them on a CPU, where "
    "loading competes with computing. The result is the same for any number. Threads need no "
    "/dev/shm"
)


def add_subset_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that `subset_of` reads."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--samples",
        type=_share_or_file,
        metavar="SHARE|FILE",
        help="train on this share of the samples, above 0 and at most 1, or on those that a file "
        "lists: a sample token, or the name of a scene, in each line",
    )
    group.add_argument("--scenes", type=share, metavar="SHARE", help="the same, by whole scenes")
    parser.add_argument(
        "--subset-seed",
        type=whole_number(0),
        default=0,
        metavar="SEED",
        help="draws the share; runs with different --seed train on the same samples",
    )


def subset_of(args: argparse.Namespace) -> Subset | None:
    """Return the subset that the options choose; None is the whole store."""
    if isinstance(args.samples, Path):
        return args.samples
    if args.samples is not None:
        return Share(unit="samples", share=args.samples, seed=args.subset_seed)
    if args.scenes is not None:
        return Share(unit="scenes", share=args.scenes, seed=args.subset_seed)
    return None


def _share_or_file(text: str) -> float | Path:
    if text and Path(text).is_file():
        return Path(text)
    try:
        return share(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, and no file of that name exists") from None
