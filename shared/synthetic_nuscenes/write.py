"""Writing the data set: folders, files by a pool of processes, tables, and last the stamp."""

import logging
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from shared.config.classes import LIDAR
from shared.process.cores import available_cores
from shared.synthetic_nuscenes.sensors.record_sample import Sightings, record_sample
from shared.synthetic_nuscenes.sensors.rig import RIG_CAMERAS
from shared.synthetic_nuscenes.stamp import (
    FolderState,
    folder_state,
    mark_complete,
    mark_unfinished,
)
from shared.synthetic_nuscenes.tables.fixed_tables import MAP_FILE, fixed_tables, write_tables
from shared.synthetic_nuscenes.tables.recording_tables import recording_tables
from shared.synthetic_nuscenes.world.synthetic_config import VERSION, SyntheticConfig

MAP_SIZE_PX = 256

logger = logging.getLogger(__name__)


def write_synthetic_nuscenes(
    out: Path, config: SyntheticConfig, *, workers: int | None = None
) -> None:
    """Write a synthetic nuScenes v1.0-mini, unless it is already there.

    An unfinished data set of the same config is written again from the start, to the same bytes.
    The processes are spawned, so a script that calls this needs the usual `__main__` guard.

    Args:
        out: data root; new, empty, or an earlier output of the same config.
        config: size and seed.
        workers: processes; None for one per available core. No byte depends on it.

    Raises:
        DatasetError: if `out` holds anything else.
    """
    started = time.monotonic()
    state = folder_state(out, config)
    if state is FolderState.COMPLETE:
        logger.info("%s already holds this synthetic nuScenes; nothing to do", out)
        return
    if state is FolderState.UNFINISHED:
        logger.warning("%s holds an unfinished synthetic nuScenes; writing it again", out)
    mark_unfinished(out, config)
    _make_folders(out)
    Image.new("L", (MAP_SIZE_PX, MAP_SIZE_PX), color=255).save(out / MAP_FILE)
    sightings = _record_scenes(out, config, workers)
    write_tables(out, {**fixed_tables(config), **recording_tables(config, sightings)})
    files, size = mark_complete(out, config)
    logger.info(
        "%s: %d scenes, %d samples, %d files, %.1f MB, %.1f s",
        out,
        len(config.scene_names),
        len(config.scene_names) * config.samples_per_scene,
        files,
        size / 1e6,
        time.monotonic() - started,
    )


def _make_folders(out: Path) -> None:
    cameras = [f"samples/{camera.channel}" for camera in RIG_CAMERAS]
    lidar = [f"samples/{LIDAR}", f"sweeps/{LIDAR}"]
    for folder in (VERSION, "maps", *cameras, *lidar):
        (out / folder).mkdir(parents=True, exist_ok=True)


def _record_scenes(
    out: Path, config: SyntheticConfig, workers: int | None
) -> dict[str, list[Sightings]]:
    """Record all keyframes, with a progress bar on a terminal; return them by scene name."""
    per_scene = config.samples_per_scene
    jobs = [(scene, sample) for scene in config.scene_names for sample in range(per_scene)]
    sightings: dict[str, list[Sightings]] = {scene: [] for scene in config.scene_names}
    recorded = _record_all(out, config, jobs, workers)
    progress = tqdm(recorded, total=len(jobs), desc="synthetic data", unit="sample", disable=None)
    for (scene, _), keyframe in zip(jobs, progress, strict=True):
        sightings[scene].append(keyframe)
    return sightings


def _record_all(
    out: Path, config: SyntheticConfig, jobs: list[tuple[str, int]], workers: int | None
) -> Iterator[Sightings]:
    """Record every sample; results come in the order of the jobs, whichever process does them."""
    count = min(available_cores() if workers is None else workers, len(jobs))
    record = partial(record_sample, out, config)
    scenes, samples = zip(*jobs, strict=True)
    if count <= 1:
        yield from map(record, scenes, samples)
        return
    # Spawned, because forking a process that runs torch or BLAS threads can deadlock.
    with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(record, scenes, samples)
