"""The samples to extract: real frames if there are any, else synthetic ones, under new names.

They are few, so their files come from memory, and a process digests them once
(`benchmarks.speed.source_digests` has what that costs).
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.speed.codecs.codec_features import INFOS, real_records
from benchmarks.speed.store.sample_rows import synthetic_samples
from shared.synthetic_nuscenes import SyntheticConfig, write_synthetic_nuscenes
from stage1_extract.nuscenes.nuscenes_tables import read_tables
from stage1_extract.nuscenes.records import SampleRecord

FRAMES = 5  # of which all samples are made


def benchmark_frames(folder: Path, real: Path, samples: int) -> tuple[str, list[SampleRecord]]:
    """Return what the frames are, and so many records.

    Args:
        folder: synthetic frames are written there, unless they are there already.
        real: folder of real frames; it need not exist.
        samples: how many; the same frames come again under other names.
    """
    if (real / INFOS).exists():
        return "real", renamed_records(real_records(real, FRAMES), samples)
    root = folder / "nuscenes"
    if not root.exists():
        config = SyntheticConfig(scenes_train=1, scenes_val=1, samples_per_scene=FRAMES)
        write_synthetic_nuscenes(root, config, workers=1)
    return "synthetic", renamed_records(read_tables(root, "v1.0-mini", "mini_train"), samples)


def renamed_records(records: Sequence[SampleRecord], count: int) -> list[SampleRecord]:
    """Return so many records, the same again under other names."""
    samples = synthetic_samples(count)
    return [
        replace(
            records[i % len(records)],
            token=samples.tokens[i],
            scene=samples.scenes[i],
            timestamp_us=samples.timestamps_us[i],
        )
        for i in range(count)
    ]
