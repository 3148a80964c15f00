"""Says before an extraction how wide its stages are, and whether there is memory for them."""

import logging

from shared.process.memory.available_memory import available_memory_bytes
from stage1_extract.extraction.stages.stage_widths import Widths

log = logging.getLogger(__name__)

# Memory of a process of its own: 411 MB were measured for one that loads `r50_800x320`, 190 of them
# the grid of voxels, and 40 for one that writes, besides its shard and what is left of earlier
# ones.
LOADER_BYTES = 450_000_000
WRITER_BYTES = 100_000_000


def announce_widths(
    widths: Widths,
    *,
    batch_size: int,
    loaded_bytes: int,
    slots: int,
    row_bytes: int,
) -> None:
    """Log how wide an extraction is; warn if its processes may need more memory than there is.

    Where processes write, a row may wait in memory of this process while its place among theirs,
    which was used before, is not free memory either.

    Args:
        widths: of loading and writing.
        batch_size: samples per forward.
        loaded_bytes: of loaded samples in shared memory, at most.
        slots: rows of a shard.
        row_bytes: of a row that is not compressed.
    """
    loaders, writers = widths.loaders, widths.writers
    rows_bytes = widths.rows * row_bytes * (2 if loaders else 1)
    log.info(
        "loading in %s, batches of %d, writing in %d %s; at most %d computed rows in memory "
        "(%.2f GB)",
        f"{loaders} processes (at most {loaded_bytes / 1e9:.2f} GB)" if loaders else "a thread",
        batch_size,
        writers,
        "processes" if loaders else "threads",
        widths.rows,
        rows_bytes / 1e9,
    )
    if not loaders:
        return
    own = loaders * LOADER_BYTES + writers * (WRITER_BYTES + slots * row_bytes)
    needed, available = loaded_bytes + rows_bytes + own, available_memory_bytes()
    if needed > available:
        log.warning(
            "the %d processes that load and write may take %.1f GB of memory, but %.1f GB are left "
            "to this job. If it runs out, processes are killed; finished shards are kept. Fewer "
            "--workers (now %d) need less",
            loaders + writers,
            needed / 1e9,
            available / 1e9,
            loaders,
        )
