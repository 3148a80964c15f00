"""The memory of what is computed or written serves what comes next."""

import os
import subprocess
import sys
import textwrap

import pytest

SHARD = 8, 12_000_000  # rows, their bytes
MAPS = 2, 100_000_000  # more than glibc ever takes from the heap by itself
FAULTS = textwrap.dedent(
    """
    import resource
    {setting}

    def faults():
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

    for turn in range(3):
        before = faults()
        rows = [bytes(range(250)) * ({size} // 250) for _ in range({count})]
        print(faults() - before)
        del rows
    """
)
KEEP = "from shared.process.memory.freed_memory import keep_freed_memory; keep_freed_memory()"


def faults_of_turns(setting: str, count: int, size: int) -> list[int]:
    """Return the page faults of three turns, in a process of its own."""
    code = FAULTS.format(setting=setting, count=count, size=size)
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [int(line) for line in printed.split()]


@pytest.mark.parametrize(("count", "size"), [SHARD, MAPS])
def test_what_comes_next_meets_no_new_pages(count: int, size: int) -> None:
    pages = count * size // os.sysconf("SC_PAGESIZE")
    first, _, last = faults_of_turns(KEEP, count, size)
    assert first > pages / 2
    assert last < pages / 100
    assert min(faults_of_turns("", count, size)) > pages / 2  # as malloc does by itself
