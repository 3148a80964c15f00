"""How much memory a process may still take: what Linux has, and what a job's limits leave."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MEMORY = "/proc/meminfo"
OWN_GROUPS = "/proc/self/cgroup"
GROUPS = "/sys/fs/cgroup"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Files:
    """Where a version of control groups says what a group may use and uses, in bytes."""

    limit: str
    used: str
    cached: tuple[str, ...]  # keys of memory.stat: pages of files, which Linux gives up


# A group includes those below it; version 1 says so of these keys of memory.stat.
VERSION_1 = _Files(
    limit="memory.limit_in_bytes",
    used="memory.usage_in_bytes",
    cached=("total_inactive_file", "total_active_file"),
)
VERSION_2 = _Files(
    limit="memory.max", used="memory.current", cached=("inactive_file", "active_file")
)


def available_memory_bytes(root: Path = Path("/")) -> int:
    """Return how much memory this process and those it starts could still take.

    The least of what Linux could give, and of what each control group of this process may take
    more: containers and jobs are limited by them.

    Args:
        root: of the file system; another for tests.
    """
    available = _meminfo(root)["MemAvailable"] * 1024
    return min([available, *_left_in_groups(root)])


def _meminfo(root: Path) -> dict[str, int]:
    lines = (line.split() for line in _under(root, MEMORY).read_text().splitlines())
    return {words[0].removesuffix(":"): int(words[1]) for words in lines if len(words) > 1}


def _left_in_groups(root: Path) -> Iterator[int]:
    """Yield what is left to each group of this process that has a limit."""
    for line in _under(root, OWN_GROUPS).read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        mounted = _under(root, GROUPS) / ("memory" if controllers else "")
        files = VERSION_1 if controllers else VERSION_2
        group = mounted / path.lstrip("/")
        while True:  # in a container the path may be that of the host, and exist only in part
            left = _left(group, files)
            if left is not None:
                yield left
            if group == mounted or mounted not in group.parents:
                break
            group = group.parent


def _left(group: Path, files: _Files) -> int | None:
    try:
        limit = (group / files.limit).read_text().strip()
        if limit == "max":
            return None
        used = int((group / files.used).read_text())
        lines = (group / "memory.stat").read_text().splitlines()
    except FileNotFoundError:  # not the root of version 2, or no group of this mount
        return None
    stat = {key: int(value) for key, value in (line.split() for line in lines)}
    return max(0, int(limit) - used + sum(stat[key] for key in files.cached))


def _under(root: Path, path: str) -> Path:
    return root / path.lstrip("/")
