"""Time `StoreWriter.write_shard` on a shard, against the codec alone, and by step."""

import shutil
from pathlib import Path

import numpy as np

from benchmarks.speed.store.reading import GIGABYTE, Measured
from benchmarks.speed.store.sample_rows import Rows, new_store, renamed, synthetic_samples
from benchmarks.speed.store.timing import Timing, timed
from cache.coordination.store import Store
from cache.format.codec import CODECS
from cache.format.row_codec import encode_frame
from cache.format.schema import BOX_COUNT, Row, row_digest
from cache.format.shard_file import write_shard_file
from cache.format.statistics import Statistics
from cache.storage.directory import DirectoryPath
from shared.config.cut import parse_cut

WHOLE, ENCODE = "StoreWriter.write_shard", "codec alone, from memory"
CHECK, FILES = "of it: checks and float16", "of it: files and fsync"
DIGESTS, STATISTICS = "of it: digests", "of it: statistics"
STEPS = (ENCODE, WHOLE, CHECK, FILES, DIGESTS, STATISTICS)


def measure_writing(rows: Rows, folder: Path, passes: int) -> list[Measured]:
    """Write the first shard repeatedly, each time into a new store."""
    metadata = rows.store.metadata
    samples = synthetic_samples(len(rows.features))
    best = {step: Timing() for step in STEPS}
    for number in range(passes):
        path = folder / f"written_{number}.zarr"
        writer = new_store(
            path,
            metadata.preset,
            samples,
            codec=metadata.codec,
            cut=parse_cut(metadata.identity["cut"]),
            max_boxes=metadata.max_boxes,
        )
        shard = writer.pending()[0]
        features = list(renamed(rows.features[: len(shard.tokens)], samples))
        with timed(best[WHOLE]):
            writer.write_shard(shard, features)
        with timed(best[CHECK]):
            encoded = [encode_frame(writer.store.arrays, frame) for frame in features]
        _time_steps(writer.store, encoded, folder, best)
        shutil.rmtree(path)
    size = sum(values.nbytes for row in encoded for values in row.values())
    return [
        {
            "what": step,
            "gb_s": size / timing.wall_s / GIGABYTE,
            "gb_per_cpu_s": size / timing.cpu_s / GIGABYTE,
            "share": best[ENCODE].wall_s / timing.wall_s,
            "share_of_time": timing.wall_s / best[WHOLE].wall_s,
        }
        for step, timing in best.items()
    ]


def _time_steps(store: Store, encoded: list[Row], folder: Path, best: dict[str, Timing]) -> None:
    """Time what `write_shard` does with checked rows, step by step."""
    with timed(best[ENCODE]):
        sealed = {
            spec.name: [CODECS[spec.codec].seal_row(row[spec.name]) for row in encoded]
            for spec in store.arrays
        }
    with timed(best[FILES]):
        for name, rows in sealed.items():
            file = DirectoryPath(folder) / name.replace("/", "_")
            write_shard_file(file, rows, store.layout.slots)
    algorithm = store.metadata.digest_algorithm
    with timed(best[DIGESTS]):
        for spec in store.arrays:
            for row in encoded:
                row_digest(spec, row[spec.name], int(row[BOX_COUNT]), algorithm)
    with timed(best[STATISTICS]):
        for spec in store.arrays:
            if spec.feature_map is not None:
                for row in encoded:
                    Statistics.of(np.asarray(row[spec.name]))
