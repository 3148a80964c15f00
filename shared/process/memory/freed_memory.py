"""What malloc does with large blocks that are freed, to be asked for again a moment later."""

import ctypes

# Of glibc's malloc.h, and what they are set to: no block is a mapping of its own, which freeing
# would return, and that much free memory at the end of the heap is kept.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
KEPT_BYTES, MAPPED_BLOCKS = 2**30, 0


def keep_freed_memory() -> None:
    """Let this process reuse the memory it frees instead of returning it to the system.

    The maps of a sample are freed layer by layer, the compressed rows of a shard together; new
    pages for those of the next one would cost a CPU a quarter of the backbones' time, an eighth of
    the writing, a tenth of training, and make threads wait for each other. The peak stays the
    same, or grows by up to a quarter where blocks of many sizes leave gaps (`check-parity`). Does
    nothing without glibc.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_MAX, MAPPED_BLOCKS)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
