"""From the command line to an extraction on a cluster."""

import argparse
import logging
import time
from collections.abc import Sequence

from cache.storage.location import absolute_place
from shared.config.preset import Preset
from shared.wording import counted, duration
from stage1_extract.cluster.ray_driver import extract_on_ray
from stage1_extract.cluster.ray_options import RayOptions
from stage1_extract.extraction.extraction_identity import draws_of
from stage1_extract.extraction.extraction_job import described_job
from stage1_extract.preprocessing.raw_frames import RawFrames

log = logging.getLogger(__name__)


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
    args.nuscenes, args.store = args.nuscenes.absolute(), absolute_place(args.store)
    if args.checkpoint is not None:
        args.checkpoint = args.checkpoint.absolute()
    job = described_job(args, preset, command)
    frames = RawFrames(job.dataset.read(), preset, draws_of(preset, job.variants))
    left = extract_on_ray(job, frames, options)
    if left:
        log.info("left to workers outside the cluster: %s", counted(left, "shard"))
    else:
        log.info("%s is complete, %s", args.store, duration(time.monotonic() - started))
