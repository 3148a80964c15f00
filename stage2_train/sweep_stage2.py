r"""Train many runs from one store: a grid of recipes, values and seeds, or your own function.

Or let Optuna look for the recipe with the highest NDS.

    sweep-stage2 train.zarr --recipe frozen_a,aqr_only --seeds 3 --out runs/compared
    sweep-stage2 train.zarr --set learning_rate=7e-5,1.4e-4 --seeds 3 --out runs/lr
    sweep-stage2 train.zarr --recipe my_recipes.py:all_of_them --out runs/mine
    sweep-stage2 train.zarr --scenes 0.25 --seeds 3 --out runs/quarter
    sweep-stage2 train.zarr --recipe my_recipes.py:clean_and_beams --seeds 3 --out runs/beams \
        --conditions train.*.zarr --val val.zarr --val-conditions val.*.zarr --nuscenes ROOT
    sweep-stage2 train.zarr --optuna my_search.py:recipe --trials 30 --out runs/search \
        --val val.zarr --nuscenes /data/nuscenes
    compare-runs runs/lr --nuscenes /data/nuscenes --out runs/lr/compared

Each run is a process of train-stage2 with a folder in --out: on GPUs one per device, on a CPU one
at a time (--jobs). A run that fails does not end the others; its train.log says why. Ctrl-C and
SIGTERM let the runs save; the same command continues, without repeating what is finished. A
function yields recipes, each with a name of its own; that of --optuna takes an optuna.Trial, asks
it for values and returns a recipe. A run gets those delta stores of --conditions that its recipe
names, and all of --val-conditions; with these, Optuna goes by the mean NDS over them and clean
samples.
"""

import argparse
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.process.command import command_parser, ending_at_once, run_command

with ending_at_once():
    from cache.delta.open_features import open_delta
    from cache.reader import CachedFeatures
    from cache.storage.location import add_deltas_option, store_path
    from cache.storage.protocol import StorePath
    from shared.checkpoint.shipped_checkpoint import checkpoint_path, require_existing
    from shared.data.feature_store import ConditionedStore
    from shared.digests import file_digest
    from shared.errors import CheckpointError, ConfigError
    from shared.process.number_options import whole_number
    from stage2_train.data.conditioned_stores import (
        by_condition,
        content_digests,
        require_same_names,
    )
    from stage2_train.data.dataset import samples_digest
    from stage2_train.data.loading_options import WORKERS_HELP, add_subset_options, subset_of
    from stage2_train.data.subset import subset_record, subset_tokens
    from stage2_train.evaluation.conditions.judged_condition import judged_conditions
    from stage2_train.evaluation.validation_samples import held_out_note
    from stage2_train.recipes.recipe import Recipe
    from stage2_train.recipes.recipes import RECIPES
    from stage2_train.sweep.sweep_plan import PlannedRun, planned_runs, recipes_named

if TYPE_CHECKING:
    from stage2_train.sweep.run_sweep import Options

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and hand over; no work happens here."""
    parser = command_parser(__doc__, "sweep-stage2")
    parser.add_argument("store", type=store_path, help="complete feature store")
    parser.add_argument("--out", type=Path, required=True, help="folder of the sweep, resumed")
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--recipe",
        default="frozen_a",
        help=f"with commas between: {', '.join(RECIPES)}, or file.py:function (default frozen_a)",
    )
    how.add_argument(
        "--optuna", metavar="FILE.py:FUNCTION", help="search instead: makes the recipe of a trial"
    )
    parser.add_argument(
        "--trials", type=whole_number(1), default=20, help="of --optuna, in all (default 20)"
    )
    parser.add_argument(
        "--seeds", type=whole_number(1), default=1, help="of each recipe (default 1)"
    )
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
    add_deltas_option(
        parser, "--conditions", "delta stores of the store, of all conditions that recipes name"
    )
    add_subset_options(parser)
    parser.add_argument("--val", type=store_path, help="validation store, see train-stage2")
    add_deltas_option(
        parser, "--val-conditions", "delta stores of the --val store: validate under these, too"
    )
    parser.add_argument("--nuscenes", type=Path, help="nuScenes root, see train-stage2")
    parser.add_argument("--jobs", type=whole_number(1), help="runs at a time (one per GPU, or 1)")
    parser.add_argument(
        "--workers", type=whole_number(0), help=WORKERS_HELP % (" per run", ", divided by --jobs")
    )
    args = parser.parse_args(argv)
    return run_command(lambda: _work(args))


def _work(args: argparse.Namespace) -> None:
    require_existing(args.checkpoint)
    store = CachedFeatures(args.store)
    store.require_complete()
    deltas = by_condition([open_delta(path, store) for path in args.conditions])
    runs = _planned(args, deltas)
    inputs = _inputs(args, store, deltas)
    if note := held_out_note(store.path, store.provenance.dataset):
        log.warning("%s", note)
    with ending_at_once():  # only now, since they take seconds
        from stage2_train.data.loader import default_workers
        from stage2_train.freezing.freezing import require_trainable
        from stage2_train.sweep.optuna_search import search
        from stage2_train.sweep.run_sweep import device_slots, run_sweep
    slots = device_slots(args.jobs, _devices())
    workers = default_workers(len(slots)) if args.workers is None else args.workers
    options = _options(args, workers, deltas)
    if args.optuna is None:
        for run in runs:
            require_trainable(run.recipe, store)
        run_sweep(args.out, runs, inputs, options, slots)
    else:
        metric = "mean_NDS" if args.val_conditions else "NDS"
        search(args.out, args.optuna, args.trials, inputs, options, slots, metric=metric)
    print(args.out)


def _planned(args: argparse.Namespace, deltas: Mapping[str, ConditionedStore]) -> list[PlannedRun]:
    """Return the runs of a grid, whose recipes name these delta stores; none of a search."""
    if args.optuna is not None:
        _require_searchable(args)
        return []
    recipes = [made for name in args.recipe.split(",") for made in recipes_named(name)]
    runs = planned_runs(recipes, args.set, args.seeds)
    named = dict(pair for run in runs for pair in run.recipe.conditions)
    require_same_names(deltas, list(named.items()))
    return runs


def _inputs(
    args: argparse.Namespace, store: CachedFeatures, deltas: Mapping[str, ConditionedStore]
) -> dict[str, Any]:
    """Return what all runs of the sweep are made from."""
    subset = subset_of(args)
    return {
        "store": samples_digest(store),
        "validation store": None if args.val is None else samples_digest(CachedFeatures(args.val)),
        "checkpoint": None if args.checkpoint is None else _checkpoint_digest(args.checkpoint),
        "subset": subset_record(subset, subset_tokens(store, subset)),
        "conditions": content_digests(deltas) or None,
        "validation conditions": _validation_conditions(args.val_conditions, args.val),
    }


def _validation_conditions(
    paths: Sequence[StorePath], store: StorePath | None
) -> dict[str, str] | None:
    """Open the delta stores of the validation store; return what they hold, None without any."""
    if not paths:
        return None
    if store is None:
        raise ConfigError("--val-conditions are of a validation store: name it with --val")
    base = CachedFeatures(store)
    deltas = by_condition([open_delta(path, base) for path in paths])
    judged_conditions((), deltas, base)  # refuses what every run would refuse
    return content_digests(deltas)


def _options(
    args: argparse.Namespace, workers: int, deltas: Mapping[str, ConditionedStore]
) -> "Options":
    """Return what gives the options of a recipe's `train-stage2`, store first."""
    options = [str(args.store), "--workers", str(workers)]
    for name in ("checkpoint", "val", "nuscenes", "samples", "scenes", "subset_seed"):
        value = getattr(args, name)
        options += [f"--{name.replace('_', '-')}", str(value)] if value else []
    if args.val_conditions:
        options += ["--val-conditions", *map(str, args.val_conditions)]

    def with_own_deltas(recipe: Recipe) -> list[str]:
        own = [str(deltas[name].path) for name, _ in recipe.conditions if name in deltas]
        return [*options, *(["--conditions", *own] if own else [])]

    return with_own_deltas


def _require_searchable(args: argparse.Namespace) -> None:
    if args.val is None or args.nuscenes is None:
        raise ConfigError(
            "--optuna looks for the highest NDS of validation: name a store with --val and the "
            "root of its tables with --nuscenes"
        )
    if args.set or args.seeds > 1:
        raise ConfigError("--set and --seeds are of a grid; with --optuna the function decides")


def _checkpoint_digest(path: Path) -> str:
    from stage2_train.run.run_checkpoint import CHECKPOINT

    try:
        return file_digest(path / CHECKPOINT if path.is_dir() else path)
    except FileNotFoundError:
        raise CheckpointError(f"--checkpoint {path}: there is no such checkpoint") from None


def _devices() -> list[str]:
    """Return the GPUs that torch may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    count = torch.cuda.device_count()
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    return names.split(",")[:count] if names else [str(i) for i in range(count)]


if __name__ == "__main__":
    sys.exit(main())
