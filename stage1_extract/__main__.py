"""Run the frozen backbones once over nuScenes and store their features.

    extract-features r50_800x320 --nuscenes /data/nuscenes --store train.zarr --checkpoint cmt.pth
    extract-features r50_800x320 --nuscenes /data/nuscenes --store val.zarr --checkpoint cmt.pth
        --split val
    extract-features tiny --nuscenes /data/mini --version v1.0-mini --split mini_train
        --store mini.zarr
    extract-features --config cmt_voxel0100_r50_800x320_cbgs.py --nuscenes /data/nuscenes
        --store train.zarr --checkpoint cmt.pth
    extract-features r50_800x320 ... --slice 2/8    # the second of eight workers on one store
    torchrun --nproc-per-node 8 -m stage1_extract r50_800x320 ...
    sbatch --array 1-8 job.sh                       # job.sh runs the first command
    extract-features r50_800x320 --nuscenes /data/nuscenes --checkpoint cmt.pth
        --condition beams-4-even --base val.zarr --store val.beams-4-even.zarr

The same command resumes an interrupted run, with any number of workers: a slice only says where a
worker begins, and once it is done the worker helps with the rest. About 25 MB per sample for
r50_800x320 before compression.
"""

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from shared.process.command import command_parser, ending_at_once, run_command

with ending_at_once():
    from cache.format.codec import CODECS, DEFAULT_CODEC
    from cache.format.layout import SHARD_BYTES
    from cache.storage.location import store_path
    from shared.checkpoint.shipped_checkpoint import checkpoint_path, require_existing
    from shared.config.cut import Cut, parse_cut
    from shared.config.mm_config.load_config import checked_files
    from shared.config.preset import Preset
    from shared.config.preset_catalogue import PRESETS, load_preset
    from shared.errors import ConfigError
    from shared.process.number_options import whole_number
    from shared.wording import counted, duration
    from stage1_extract.cluster.ray_options import add_ray_options, ray_options
    from stage1_extract.extraction.delta.delta_options import add_delta_options, asks_for_delta
    from stage1_extract.extraction.stages.stage_widths import LARGEST_BATCH
    from stage1_extract.extraction.worker_slice import (
        choose_cuda_device,
        choose_slice,
        parse_slice,
    )
    from stage1_extract.nuscenes.dataset_options import (
        OF_BASE,
        add_dataset_options,
    )

log = logging.getLogger("stage1_extract")

MIB = 2**20


def chosen_preset(name: str | None, config: Path | None) -> Preset:
    """Return the named preset, or the preset that an official config file describes.

    Raises:
        ConfigError: unless exactly one of them is given and can be used.
    """
    if name is not None and config is None:
        return load_preset(name)
    if config is not None and name is None:
        checked_files(config)
        from stage1_extract.mm_config.preset_from_config import preset_from_config

        return preset_from_config(config)
    raise ConfigError(
        f"name either a preset ({', '.join(PRESETS)}, or file.py:function) or a --config file"
        f"{'' if name is None else ', not both'}"
    )


def cut_option(text: str) -> Cut:
    """Read --cut."""
    try:
        return parse_cut(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def options() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = command_parser(__doc__, "extract-features")
    parser.add_argument("preset", nargs="?", help=f"{', '.join(PRESETS)}, or file.py:function")
    parser.add_argument(
        "--config", type=Path, help="instead: a CMT config of mmcv 1.x or mmdet3d; this runs it"
    )
    add_dataset_options(parser, **OF_BASE)
    parser.add_argument(
        "--store", type=store_path, required=True, help="Zarr store to write or resume, or s3://..."
    )
    parser.add_argument(
        "--checkpoint",
        type=checkpoint_path,
        help="CMT checkpoint, or tiny, which ships for the preset tiny (default seeded random "
        "weights)",
    )
    parser.add_argument(
        "--cut",
        type=cut_option,
        help="where the frozen part ends: backbone (default, with --base that of the base), neck, "
        "memory, or per sensor as in camera=neck,lidar=memory",
    )
    parser.add_argument(
        "--variants",
        type=whole_number(1),
        help="variants per sample, the recorded one included (default as in the store to resume, "
        "else 1); variants that the store lacks are added",
    )
    parser.add_argument(
        "--codec",
        choices=tuple(CODECS),
        help=f"how maps are stored, see docs/store.md (default as in the store to resume, "
        f"else {DEFAULT_CODEC})",
    )
    parser.add_argument(
        "--batch-size",
        type=whole_number(1),
        help="samples per forward on a GPU (default as in the store to resume, else up to "
        f"{LARGEST_BATCH} by the GPU's free memory); a store keeps its batch size, since results "
        "depend on it. On a CPU always 1",
    )
    parser.add_argument(
        "--shard-mib",
        type=whole_number(1),
        default=SHARD_BYTES // MIB,
        help=f"size of a shard before compression (default {SHARD_BYTES // MIB}); a killed run "
        "loses its current shard, and small shards make many files",
    )
    parser.add_argument(
        "--workers",
        type=whole_number(0),
        help="processes that load raw files, beside which three quarters as many encode and write "
        "(default: one per core on a GPU, else 0: threads load and write)",
    )
    parser.add_argument(
        "--slice",
        type=parse_slice,
        help="begin with slice i of n, e.g. 2/8 (default from torchrun or Slurm, else 1/1)",
    )
    add_delta_options(parser)
    # The option's earlier name, for existing scripts.
    parser.add_argument("--part", dest="slice", type=parse_slice, help=argparse.SUPPRESS)
    add_ray_options(parser)
    return parser


def extract(args: argparse.Namespace, command: Sequence[str]) -> None:
    """Extract as the command line says.

    Args:
        args: from the parser of `options`.
        command: the words they were parsed from, which the store records.
    """
    require_existing(args.checkpoint)
    on_cluster, is_delta = ray_options(args), asks_for_delta(args)
    if on_cluster is not None and is_delta:
        raise ConfigError(
            "--ray hands out the shards of a whole store; a --condition is extracted without it, "
            "by any number of workers: start the command on each machine, with --slice 1/2 etc."
        )
    # Imported from here on, since torch comes with it: neither --help, nor a mistyped option, nor a
    # process that loads raw files, which imports this module too, has to wait for it.
    with ending_at_once():
        preset = chosen_preset(args.preset, args.config)

        from stage1_extract.extraction.extraction_identity import draws_of
        from stage1_extract.extraction.extraction_job import described_job
        from stage1_extract.extraction.fill_store import fill_store
    if on_cluster is not None:
        from stage1_extract.cluster.cluster_command import extract_on_cluster

        extract_on_cluster(args, preset, on_cluster, command)
        return
    if is_delta:
        from stage1_extract.extraction.delta.extract_delta import extract_delta

        extract_delta(args, preset, command)
        return
    worker_slice = choose_slice(args.slice)
    choose_cuda_device()
    job = described_job(args, preset, command)
    records = job.dataset.read()
    opened = job.open(records)
    log.info(opened.about)
    started = time.monotonic()
    fill_store(
        opened.writer,
        records,
        opened.frozen,
        batch_size=opened.batch_size,
        workers=args.workers,
        worker_slice=worker_slice,
        draws=draws_of(preset, job.variants),
    )
    left, seconds = len(opened.writer.pending()), time.monotonic() - started
    if left:
        log.info("left to other workers: %s; %s", counted(left, "shard"), duration(seconds))
    else:
        log.info("%s is complete, %s", args.store, duration(seconds))


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and start the work."""
    args = options().parse_args(argv)
    command = sys.argv[1:] if argv is None else argv
    return run_command(lambda: extract(args, command))


if __name__ == "__main__":
    sys.exit(main())
