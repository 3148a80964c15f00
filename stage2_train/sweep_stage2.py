"""Train many runs from one store: a grid of recipes, values and seeds, or your own function.

Or let Optuna look for the recipe with the highest NDS.

    sweep-stage2 train.zarr --recipe frozen_a,aqr_only --seeds 3 --out runs/compared
    sweep-stage2 train.zarr --set learning_rate=7e-5,1.4e-4 --seeds 3 --out runs/lr
    sweep-stage2 train.zarr --recipe my_recipes.py:all_of_them --out runs/mine
    sweep-stage2 train.zarr --scenes 0.25 --seeds 3 --out runs/quarter
    sweep-stage2 train.zarr --optuna my_search.py:recipe --trials 30 --out runs/search \
        --val val.zarr --nuscenes /data/nuscenes
    compare-runs runs/lr --nuscenes /data/nuscenes --out runs/lr/compared

Each run is a process of train-stage2 with a folder in --out: on GPUs one per device, on a CPU one
at a time (--jobs). A run that fails does not end the others; its train.log says why. Ctrl-C and
SIGTERM let the runs save; the same command continues, without repeating what is finished. A
function yields recipes, each with a name of its own; that of --optuna takes an optuna.Trial, asks
it for values and returns a recipe.
"""

import argparse
import os
import sys
from pathlib import Path

import torch

from cache.reader import CachedFeatures
from cache.storage.location import store_path
from shared.checkpoint.shipped_checkpoint import checkpoint_path
from shared.digests import file_digest
from shared.errors import CheckpointError, ConfigError
from shared.process.command import run_command
from shared.process.number_options import whole_number
from stage2_train.data.dataset import samples_digest
from stage2_train.data.loader import WORKERS_HELP, default_workers
from stage2_train.data.subset import subset_record, subset_tokens
from stage2_train.data.subset_options import add_subset_options, subset_of
from stage2_train.freezing.freezing import require_trainable
from stage2_train.recipes.recipes import RECIPES
from stage2_train.run.run_folder import CHECKPOINT
from stage2_train.sweep.optuna_search import search
from stage2_train.sweep.run_sweep import device_slots, run_sweep
from stage2_train.sweep.sweep_plan import planned_runs, recipes_named


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and hand over; no work happens here."""
    parser = argparse.ArgumentParser(
        prog="sweep-stage2",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("store", type=store_path, help="complete feature store")
    parser.add_argument("--out", type=Path, required=True, help="folder of the sweep, resumed")
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--recipe",
        default="frozen_a",
        help=f"with commas between: {', '.join(RECIPES)}, or file.py:function",
    )
    how.add_argument(
        "--optuna", metavar="FILE.py:FUNCTION", help="search instead: makes the recipe of a trial"
    )
    parser.add_argument("--trials", type=whole_number(1), default=20, help="of --optuna, in all")
    parser.add_argument("--seeds", type=whole_number(1), default=1, help="of each recipe")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE,...",
        help="values of a field of the recipes; may be repeated for a grid",
    )
    parser.add_argument(
        "--checkpoint",
        type=checkpoint_path,
        help="CMT checkpoint, or run, that every run starts from",
    )
    add_subset_options(parser)
    parser.add_argument("--val", type=store_path, help="validation store, see train-stage2")
    parser.add_argument("--nuscenes", type=Path, help="nuScenes root, see train-stage2")
    parser.add_argument("--jobs", type=whole_number(1), help="runs at a time (one per GPU, or 1)")
    parser.add_argument(
        "--workers", type=whole_number(0), help=WORKERS_HELP % (" per run", ", divided by --jobs")
    )
    args = parser.parse_args(argv)
    return run_command(lambda: _work(args))


def _work(args: argparse.Namespace) -> None:
    store = CachedFeatures(args.store)
    store.require_complete()
    slots = device_slots(args.jobs, _devices())
    options = _options(args, default_workers(len(slots)) if args.workers is None else args.workers)
    subset = subset_of(args)
    inputs = {
        "store": _samples_of(store),
        "validation store": None if args.val is None else _samples_of(CachedFeatures(args.val)),
        "checkpoint": None if args.checkpoint is None else _checkpoint_digest(args.checkpoint),
        "subset": subset_record(subset, subset_tokens(store, subset)),
    }
    if args.optuna is None:
        recipes = [made for name in args.recipe.split(",") for made in recipes_named(name)]
        runs = planned_runs(recipes, args.set, args.seeds)
        for run in runs:
            require_trainable(run.recipe, store)
        run_sweep(args.out, runs, inputs, options, slots)
    else:
        _require_searchable(args)
        search(args.out, args.optuna, args.trials, inputs, options, slots)
    print(args.out)


def _options(args: argparse.Namespace, workers: int) -> list[str]:
    """Return the options of every `train-stage2`, store first."""
    options = [str(args.store), "--workers", str(workers)]
    for name in ("checkpoint", "val", "nuscenes", "samples", "scenes", "subset_seed"):
        value = getattr(args, name)
        options += [f"--{name.replace('_', '-')}", str(value)] if value else []
    return options


def _require_searchable(args: argparse.Namespace) -> None:
    if args.val is None or args.nuscenes is None:
        raise ConfigError(
            "--optuna looks for the highest NDS of validation: name a store with --val and the "
            "root of its tables with --nuscenes"
        )
    if args.set or args.seeds > 1:
        raise ConfigError("--set and --seeds are of a grid; with --optuna the function decides")


def _samples_of(store: CachedFeatures) -> str:
    return samples_digest(store.identity_digest, store.sources_digest)


def _checkpoint_digest(path: Path) -> str:
    try:
        return file_digest(path / CHECKPOINT if path.is_dir() else path)
    except FileNotFoundError:
        raise CheckpointError(f"--checkpoint {path}: there is no such checkpoint") from None


def _devices() -> list[str]:
    """Return the GPUs that torch may use, as CUDA_VISIBLE_DEVICES names them."""
    count = torch.cuda.device_count()
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    return names.split(",")[:count] if names else [str(i) for i in range(count)]


if __name__ == "__main__":
    sys.exit(main())
