"""Train everything after the frozen backbones from a feature store.

    train-stage2 /data/r50.zarr --out runs/a --checkpoint cmt.pth      # recipe frozen_a
    train-stage2 /data/r50.zarr --out runs/a --checkpoint cmt.pth      # again: resumes
    train-stage2 /data/r50.zarr --out runs/b --recipe my_recipes.py:fast
    train-stage2 /data/r50.zarr --out runs/d --set aqr.bev_window=7 --set clip_norm=10 --seed 3
    train-stage2 /data/r50.zarr --out runs/e --config cmt_aqr_voxel0100_r50_800x320_cbgs.py
    train-stage2 /data/r50.zarr --out runs/quarter --samples 0.25      # or --scenes 0.25, or a file
    train-stage2 /data/r50.zarr --out runs/c --devices 4               # DDP; the batch is shared
    train-stage2 /data/r50.zarr --out runs/c --val /data/r50_val.zarr --nuscenes /data/nuscenes
    train-stage2 train.zarr --out runs/f --conditions train.*.zarr --set conditions=beams-4-even:0.2
    torchrun --standalone --nproc-per-node 4 --max-restarts 3 -m stage2_train STORE --out DIR
    srun train-stage2 /data/r50.zarr --out runs/d --devices 4 --nodes 2

The run folder gets config.json; freezing.json, what is trained and what is not; code.csv, digests
of the code that trained; log.csv, timing.csv and tensorboard/; checkpoint.pt to resume from and to
evaluate, the last few checkpoints, and best.pt. With --val and --nuscenes, best.pt is the best
detector by NDS on the validation store, with --val alone by its loss, or by what the recipe says.
Without --val it has the lowest mean training loss, which is not the best detector: that loss falls
on when a detector only memorises.
With --val, also validation.csv, and at the end best.json and validation/: best.pt on all samples.
With --conditions, delta stores of the store, each sample is under one of their conditions, or
clean, as often as the recipe's `conditions` says. With --val-conditions, delta stores of the
validation store, all of that is also measured under these; `best_by=mean_NDS` goes by the mean.
"""

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from shared.process.command import command_parser, ending_at_once, run_command

with ending_at_once():
    from cache.delta.open_features import open_delta
    from cache.reader import CachedFeatures
    from cache.storage.location import add_deltas_option, store_path
    from shared.checkpoint.shipped_checkpoint import checkpoint_path, require_existing
    from shared.config.mm_config.load_config import checked_files
    from shared.errors import ConfigError
    from shared.process.number_options import whole_number
    from stage2_train.data.loading_options import (
        LOADER_HELP,
        LOADERS,
        THREADS,
        WORKERS_HELP,
        add_subset_options,
        subset_of,
    )
    from stage2_train.evaluation.validation_samples import held_out_note
    from stage2_train.recipes.overrides import override
    from stage2_train.recipes.recipe import MOST_SEED, Recipe
    from stage2_train.recipes.recipes import RECIPES, load_recipe

if TYPE_CHECKING:
    from stage2_train.training.validation import Validator

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and hand over; no work happens here."""
    parser = command_parser(__doc__, "train-stage2")
    parser.add_argument("store", type=store_path, help="complete feature store")
    parser.add_argument("--out", type=Path, required=True, help="run folder, resumed if it exists")
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--recipe",
        default="frozen_a",
        help=f"{', '.join(RECIPES)}, or file.py:function (default frozen_a)",
    )
    how.add_argument(
        "--config", type=Path, help="instead of a recipe: a config of mmcv 1.x or mmengine"
    )
    parser.add_argument(
        "--checkpoint",
        type=checkpoint_path,
        help="CMT checkpoint, or run, whose necks and head to start from; or tiny, which ships",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="change a field of the recipe: learning_rate=2e-4, aqr.bev_window=7, aqr=none, "
        "lr_multipliers.img_neck=0.1; may be repeated",
    )
    parser.add_argument("--seed", type=whole_number(0, MOST_SEED), help="short for --set seed=SEED")
    add_deltas_option(
        parser, "--conditions", "delta stores of the store, of all conditions that the recipe names"
    )
    add_subset_options(parser)
    parser.add_argument(
        "--val", type=store_path, help="store to validate on, as often as the recipe says"
    )
    add_deltas_option(
        parser, "--val-conditions", "delta stores of the --val store: validate under these, too"
    )
    parser.add_argument(
        "--nuscenes", type=Path, help="nuScenes root with the tables, for mAP and NDS with --val"
    )
    parser.add_argument("--stop-after", type=whole_number(0), metavar="STEPS", help="stop early")
    parser.add_argument(
        "--workers",
        type=whole_number(0),
        help=WORKERS_HELP % (" per device", ", divided by --devices"),
    )
    parser.add_argument("--loader", choices=LOADERS, default=THREADS, help=LOADER_HELP)
    parser.add_argument(
        "--devices", type=whole_number(1), default=1, help="on each node (default 1)"
    )
    parser.add_argument(
        "--nodes", type=whole_number(1), default=1, help="of the run, each with --devices"
    )
    args = parser.parse_args(argv)
    return run_command(lambda: _work(args))


def _work(args: argparse.Namespace) -> None:
    if args.val is None:
        _refuse_options_of_validation(args)
    require_existing(args.checkpoint)
    store = CachedFeatures(args.store)
    overrides = args.set + ([] if args.seed is None else [f"seed={args.seed}"])
    recipe = override(_recipe(args, store), overrides)
    conditions = [open_delta(path, store) for path in args.conditions]
    validation = None if args.val is None else CachedFeatures(args.val)
    # Only now, since they take seconds; nor does a loader process, which imports this module too,
    # wait for them or hold their memory.
    with ending_at_once():
        from lightning_fabric.utilities.rank_zero import rank_zero_only

        from stage2_train.data.loader import default_workers
        from stage2_train.training.build import train
    if note := held_out_note(store.path, store.provenance.dataset):
        rank_zero_only(log.warning)("%s", note)
    workers = default_workers(args.devices) if args.workers is None else args.workers
    validator = None
    if validation is not None:
        validator = _validator(args, validation, store, recipe, workers)
    result = train(
        store,
        recipe,
        args.out,
        conditions=conditions,
        subset=subset_of(args),
        overrides=overrides,
        checkpoint=args.checkpoint,
        validator=validator,
        stop_after=args.stop_after,
        workers=workers,
        loader=args.loader,
        devices=args.devices,
        nodes=args.nodes,
    )
    rank_zero_only(print)(json.dumps(result))


def _refuse_options_of_validation(args: argparse.Namespace) -> None:
    if args.nuscenes is not None:
        raise ConfigError("--nuscenes is for metrics on a validation store: name one with --val")
    if args.val_conditions:
        raise ConfigError("--val-conditions are of a validation store: name it with --val")


def _recipe(args: argparse.Namespace, store: CachedFeatures) -> Recipe:
    if args.config is None:
        return load_recipe(args.recipe)
    checked_files(args.config)
    with ending_at_once():
        from stage2_train.recipes.mm_recipe.recipe_from_config import recipe_for_store
    return recipe_for_store(args.config, store.preset)


def _validator(
    args: argparse.Namespace,
    validation: CachedFeatures,
    store: CachedFeatures,
    recipe: Recipe,
    workers: int,
) -> "Validator":
    with ending_at_once():
        from stage2_train.evaluation.conditions.store_validator import StoreValidator
    return StoreValidator(
        validation,
        store,
        nuscenes_root=args.nuscenes,
        samples=recipe.validation_samples,
        workers=workers,
        conditions=[open_delta(path, validation) for path in args.val_conditions],
    )


if __name__ == "__main__":
    sys.exit(main())
