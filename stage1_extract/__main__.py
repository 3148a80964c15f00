"""Run the frozen backbones once over nuScenes and store what they see.

    extract-features r50_800x320 --nuscenes /data/nuscenes --store train.zarr --checkpoint cmt.pth
    extract-features r50_800x320 --nuscenes /data/nuscenes --store val.zarr --checkpoint cmt.pth
        --split val
    extract-features tiny --nuscenes /data/mini --version v1.0-mini --split mini_train
        --store mini.zarr
    extract-features --config cmt_voxel0100_r50_800x320_cbgs.py --nuscenes /data/nuscenes
        --store train.zarr --checkpoint cmt.pth

The same command again resumes. About 25 MB per sample for r50_800x320 before compression.
"""

import argparse
import logging
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from cache.create import open_or_create
from cache.layout import SHARD_BYTES
from cache.metadata import Provenance
from cache.samples import Samples
from cache.schema import row_bytes
from cache.writer import StoreWriter
from shared.command import run_command
from shared.config import Preset
from shared.errors import ConfigError
from shared.presets import PRESETS, load_preset
from stage1_extract.dataset_options import (
    DatasetChoice,
    add_dataset_options,
    chosen_dataset,
)
from stage1_extract.extract import fill_store
from stage1_extract.frozen import FrozenBackbones
from stage1_extract.identity import store_identity
from stage1_extract.mm_config.preset import preset_of_config
from stage1_extract.records import SampleRecord
from stage1_extract.weights import frozen_backbones

log = logging.getLogger("stage1_extract")

MIB = 2**20
SOFTWARE = ("torch", "numpy", "mmdet", "mmdet3d", "mmcv", "spconv-cu118", "frozen-cmt")


def open_store(
    path: Path,
    frozen: FrozenBackbones,
    records: Sequence[SampleRecord],
    dataset: DatasetChoice,
    *,
    origin: str,
    command: Sequence[str],
    shard_bytes: int,
) -> StoreWriter:
    """Create the store, or open the one that is to be gone on with.

    Raises:
        IdentityError: if the store there was made from something else.
        CacheError: if something else is there.
    """
    return open_or_create(
        path,
        preset=frozen.preset,
        identity=store_identity(frozen, records, dataset.version),
        samples=Samples(
            tokens=tuple(record.token for record in records),
            scenes=tuple(record.scene for record in records),
            timestamps_us=tuple(record.timestamp_us for record in records),
        ),
        max_boxes=max(len(record.annotations.labels) for record in records),
        provenance=Provenance(
            command=shlex.join(["extract-features", *command]),
            weights=origin,
            software={name: version(name) for name in SOFTWARE},
            dataset=dataset.document(),
        ),
        shard_bytes=shard_bytes,
    )


def chosen_preset(name: str | None, config: Path | None) -> Preset:
    """Return the preset that is named, or the one an official config file describes.

    Raises:
        ConfigError: if there is not exactly one of them, or it cannot be used.
    """
    if name is not None and config is None:
        return load_preset(name)
    if config is not None and name is None:
        return preset_of_config(config)
    raise ConfigError(
        f"name a preset ({', '.join(PRESETS)}, or file.py:function) or a --config file, "
        f"{'one of them' if name is None else 'not both'}"
    )


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and hand over; no work happens here."""
    parser = argparse.ArgumentParser(
        prog="extract-features",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("preset", nargs="?", help=f"{', '.join(PRESETS)}, or file.py:function")
    parser.add_argument(
        "--config", type=Path, help="instead: a CMT config of mmcv 1.x or mmdet3d; it is run"
    )
    add_dataset_options(parser)
    parser.add_argument("--store", type=Path, required=True, help="Zarr store to write or resume")
    parser.add_argument(
        "--checkpoint", type=Path, help="CMT checkpoint; else seeded random weights"
    )
    parser.add_argument("--batch-size", type=int, default=1, help="samples per forward (default 1)")
    parser.add_argument(
        "--shard-mib",
        type=int,
        default=SHARD_BYTES // MIB,
        help=f"size of a shard before compression (default {SHARD_BYTES // MIB}); a kill loses the "
        "shard at work, and small shards make many files",
    )
    parser.add_argument("--workers", type=int, default=0, help="processes that load raw files")
    args = parser.parse_args(argv)
    command = sys.argv[1:] if argv is None else argv

    def work() -> None:
        preset = chosen_preset(args.preset, args.config)
        dataset = chosen_dataset(args)
        records = dataset.read()
        frozen, origin = frozen_backbones(preset, args.checkpoint)
        log.info("%s on %s: %s", preset.name, frozen.device, origin)
        writer = open_store(
            args.store,
            frozen,
            records,
            dataset,
            origin=origin,
            command=command,
            shard_bytes=args.shard_mib * MIB,
        )
        announce(writer, len(records))
        started = time.monotonic()
        fill_store(writer, records, frozen, batch_size=args.batch_size, workers=args.workers)
        log.info("%s is complete, %.0f s", args.store, time.monotonic() - started)

    return run_command(work)


def announce(writer: StoreWriter, samples: int) -> None:
    """Say before the work starts how large it will be, and whether the disk can hold it."""
    store = writer.store
    left = sum(len(shard.tokens) for shard in writer.pending())
    left_gb = left * row_bytes(store.arrays) / 1e9
    free_gb = shutil.disk_usage(store.path).free / 1e9
    log.info(
        "%d of %d samples to extract in %d shards; %.2f GB before compression, %.0f GB free",
        left,
        samples,
        len(writer.pending()),
        left_gb,
        free_gb,
    )
    if left_gb > free_gb:
        log.warning("this may not fit: a full disk stops the run, finished shards are kept")


if __name__ == "__main__":
    sys.exit(main())
