"""What malloc does with large blocks that are freed, to be asked for again a moment later."""

import ctypes

# Of glibc's malloc.h, and what they are set to: blocks up to 32 MB, its own limit, come from the
# heap, and that much free memory at its end is kept.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES, HEAP_BLOCK_BYTES = 2**30, 2**25


def keep_freed_memory() -> None:
    """Let this process reuse the memory it frees instead of returning it to the system.

    The compressed rows of a shard are freed together; new pages for those of the next one would
    cost an eighth of the writing, and make threads wait for each other. The peak stays the same.
    Does nothing without glibc.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, HEAP_BLOCK_BYTES)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
