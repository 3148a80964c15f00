"""The samples to extract: real frames if there are any, else synthetic ones, under new names.

They are few, so their files come from memory. Each sample has links of its own to them, so that all
are digested, as those of nuScenes are.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.speed.codecs.codec_features import INFOS, real_records
from benchmarks.speed.store.sample_rows import synthetic_samples
from shared.config.preset import MAX_SWEEPS
from shared.synthetic_nuscenes import SyntheticConfig, write_synthetic_nuscenes
from stage1_extract.nuscenes.nuscenes_tables import read_tables
from stage1_extract.nuscenes.records import SampleRecord, Sweep

FRAMES = 5  # of which all samples are made
SWEEP_US = 50_000  # from one sweep to the next
# How far a repeated sweep is moved from the one before. A sweep more that was recorded adds 7,000
# voxels of `r50_800x320` to a real frame; this distance adds 5,500 to 8,000, 0 m adds 500.
SWEEP_SHIFT_M = 0.1


def benchmark_frames(folder: Path, real: Path, samples: int) -> tuple[str, list[SampleRecord]]:
    """Return what the frames are, and so many records with ten sweeps each.

    Args:
        folder: synthetic frames and links are written there, unless they are there already.
        real: folder of real frames; it need not exist.
        samples: how many; the same frames come again under other names.
    """
    if (real / INFOS).exists():
        source, records = "real", real_records(real, FRAMES)
    else:
        root = folder / "nuscenes"
        if not root.exists():
            config = SyntheticConfig(scenes_train=1, scenes_val=0, samples_per_scene=FRAMES)
            write_synthetic_nuscenes(root, config, workers=1)
        source, records = "synthetic", read_tables(root, "v1.0-mini", "mini_train")
    records = [with_all_sweeps(record) for record in records]
    return source, [
        with_own_files(record, folder / "frames" / f"{i}")
        for i, record in enumerate(renamed_records(records, samples))
    ]


def with_all_sweeps(record: SampleRecord) -> SampleRecord:
    """Return a record with as many sweeps as nuScenes has: its own, and the last of them again."""
    sweeps = list(record.sweeps)
    last = sweeps[-1] if sweeps else itself_as_sweep(record)
    for number in range(1, MAX_SWEEPS - len(sweeps) + 1):
        shift_m = np.array([0, -number * SWEEP_SHIFT_M, 0])
        sweeps.append(
            replace(
                last,
                timestamp_us=last.timestamp_us - number * SWEEP_US,
                translation_m=last.translation_m + shift_m,
            )
        )
    return replace(record, sweeps=tuple(sweeps))


def itself_as_sweep(record: SampleRecord) -> Sweep:
    """Return the points of a keyframe as a sweep of it."""
    return Sweep(
        file=record.lidar_file,
        timestamp_us=record.timestamp_us,
        rotation=np.eye(3),
        translation_m=np.zeros(3),
    )


def with_own_files(record: SampleRecord, folder: Path) -> SampleRecord:
    """Return a record whose files are links in a folder, which are made unless they exist."""
    folder.mkdir(parents=True, exist_ok=True)

    def link(file: Path, name: str) -> Path:
        path = folder / f"{name}{file.suffix}"
        if not path.exists():
            path.symlink_to(file.resolve())
        return path

    return replace(
        record,
        root=folder.parent,
        lidar_file=link(record.lidar_file, "lidar"),
        sweeps=tuple(
            replace(sweep, file=link(sweep.file, f"sweep{i}"))
            for i, sweep in enumerate(record.sweeps)
        ),
        cameras=tuple(
            replace(camera, file=link(camera.file, camera.name)) for camera in record.cameras
        ),
    )


def renamed_records(records: Sequence[SampleRecord], count: int) -> list[SampleRecord]:
    """Return so many records, the same again under other names and at other times."""
    samples = synthetic_samples(count)

    def renamed(record: SampleRecord, place: int) -> SampleRecord:
        later_us = samples.timestamps_us[place] - record.timestamp_us
        return replace(
            record,
            token=samples.tokens[place],
            scene=samples.scenes[place],
            timestamp_us=record.timestamp_us + later_us,
            sweeps=tuple(
                replace(sweep, timestamp_us=sweep.timestamp_us + later_us)
                for sweep in record.sweeps
            ),
        )

    return [renamed(records[i % len(records)], i) for i in range(count)]
