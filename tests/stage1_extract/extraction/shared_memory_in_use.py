"""Prints the most bytes of /dev/shm that loading takes: `-m ... WORKERS BATCH_SIZE`."""

import shutil
import sys
import time

import torch

from cache.format.layout import Shard
from stage1_extract.extraction.fill_store import planned_batches
from stage1_extract.extraction.raw_loader import RawLoader
from stage1_extract.extraction.stage_rates import STAGES, StageRates
from tests.cache.conftest import make_features
from tests.stage1_extract.extraction.faulty_frames import FaultyFrames, NamedFrame
from tests.stage1_extract.extraction.test_raw_loader import Live

SAMPLES = 40
TAKEN = 6  # batches


class LargeFrames(FaultyFrames):
    """Samples of 1 MiB."""

    def __getitem__(self, place: tuple[int, int]) -> NamedFrame:
        return NamedFrame(self.frames[0], torch.zeros(2**20, dtype=torch.uint8), None)


def most_in_use(workers: int, batch_size: int) -> int:
    """Return the largest use of shared memory, while batches are computed slowly."""
    tokens = tuple(str(sample) for sample in range(SAMPLES))
    loader = RawLoader(
        Live(LargeFrames((make_features("ant").frame,))),  # type: ignore[arg-type]
        planned_batches([Shard(index=0, variant=0, start=0, tokens=tokens)], batch_size),
        workers=workers,
        padded_size=0,
        rates=StageRates(dict.fromkeys(STAGES, 1)),
    )
    before, most = shutil.disk_usage("/dev/shm").used, 0
    with loader as raw:
        for taken, _ in enumerate(raw.batches(meanwhile=lambda: None), start=1):
            for _ in range(20):
                time.sleep(0.02)
                most = max(most, shutil.disk_usage("/dev/shm").used - before)
            if taken == TAKEN:
                break
    return most


if __name__ == "__main__":
    print(most_in_use(int(sys.argv[1]), int(sys.argv[2])))
