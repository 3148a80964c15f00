"""Says before an extraction how wide its stages are, and whether there is memory for them."""

import logging

from shared.process.memory.available_memory import available_memory_bytes
from stage1_extract.extraction.stages.stage_widths import Widths

log = logging.getLogger(__name__)

# Memory of a process of its own: 411 MB were measured for one that loads `r50_800x320`, 190 of them
# the grid of voxels, and 200 for one that writes, besides its shard.
LOADER_BYTES = 450_000_000
WRITER_BYTES = 250_000_000


def announce_widths(
    widths: Widths,
    *,
    batch_size: int,
    loaded_bytes: int,
    slots: int,
    row_bytes: int,
    is_pinned: bool,
) -> None:
    """Log how wide an extraction is; warn if its processes may need more memory than there is.

    Args:
        widths: of loading and writing.
        batch_size: samples per forward.
        loaded_bytes: of loaded samples in shared memory, at most.
        slots: rows of a shard.
        row_bytes: of a row that is not compressed.
        is_pinned: whether rows wait in page-locked memory before they are copied to the processes.
    """
    loaders, writers = widths.loaders, widths.writers
    log.info(
        "loading in %s, batches of %d, writing in %d %s; at most %d computed rows in memory "
        "(%.2f GB)",
        f"{loaders} processes (at most {loaded_bytes / 1e9:.2f} GB)" if loaders else "a thread",
        batch_size,
        writers,
        "processes" if loaders else "threads",
        widths.rows,
        widths.rows * row_bytes / 1e9,
    )
    if not loaders:
        return
    rows = widths.rows * (2 if is_pinned else 1) + writers * slots
    of_processes = loaders * LOADER_BYTES + writers * WRITER_BYTES
    needed, available = loaded_bytes + of_processes + rows * row_bytes, available_memory_bytes()
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
