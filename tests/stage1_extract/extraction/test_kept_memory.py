"""The memory of a written shard serves the next one."""

import os
import subprocess
import sys
import textwrap

ROWS, ROW_BYTES = 8, 12_000_000
FAULTS_OF_SHARDS = textwrap.dedent(
    f"""
    import resource
    {{setting}}

    def faults():
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

    for shard in range(3):
        before = faults()
        rows = [bytes(range(250)) * ({ROW_BYTES} // 250) for _ in range({ROWS})]
        print(faults() - before)
        del rows
    """
)
KEEP = "from shared.process.memory.freed_memory import keep_freed_memory; keep_freed_memory()"


def faults_of_shards(setting: str) -> list[int]:
    """Return the page faults of three shards, in a process of its own."""
    command = [sys.executable, "-c", FAULTS_OF_SHARDS.format(setting=setting)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [int(line) for line in printed.split()]


def test_the_rows_of_the_next_shard_meet_no_new_pages() -> None:
    pages = ROWS * ROW_BYTES // os.sysconf("SC_PAGESIZE")
    first, _, last = faults_of_shards(KEEP)
    assert first > pages / 2
    assert last < pages / 100
    assert min(faults_of_shards("")) > pages / 2  # as malloc does by itself
