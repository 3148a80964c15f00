"""From the command line to an extraction on a cluster."""

import argparse
import logging
import time
from collections.abc import Sequence

from cache.extend import variants_at
from cache.storage.location import absolute_place
from shared.config.preset import Preset
from stage1_extract.cluster.extraction_job import ExtractionJob
from stage1_extract.cluster.ray_driver import extract_on_ray
from stage1_extract.cluster.ray_options import RayOptions
from stage1_extract.extraction.extraction_identity import draws_of
from stage1_extract.nuscenes.dataset_options import chosen_dataset
from stage1_extract.preprocessing.raw_frames import RawFrames

log = logging.getLogger(__name__)

MIB = 2**20


def extract_on_cluster(
    args: argparse.Namespace, preset: Preset, options: RayOptions, command: Sequence[str]
) -> None:
    """Extract as the command line says; see `ray_driver.extract_on_ray`.

    Args:
        args: of `extract-features`.
        preset: that they name.
        options: the cluster.
        command: the words of the command line.
    """
    started = time.monotonic()
    # Workers have working directories of their own.
    args.nuscenes = args.nuscenes.absolute()
    store = absolute_place(args.store)
    variants = variants_at(store) if args.variants is None else args.variants
    dataset = chosen_dataset(args)
    job = ExtractionJob(
        preset=preset,
        cut=args.cut,
        checkpoint=None if args.checkpoint is None else args.checkpoint.absolute(),
        store=store,
        dataset=dataset,
        command=tuple(command),
        codec=args.codec,
        variants=variants,
        batch_size=args.batch_size,
        shard_bytes=args.shard_mib * MIB,
    )
    frames = RawFrames(dataset.read(), preset, draws_of(preset, variants))
    left = extract_on_ray(job, frames, options)
    if left:
        log.info("%d shards are left to workers outside the cluster", left)
    else:
        log.info("%s is complete, %.0f s", args.store, time.monotonic() - started)
