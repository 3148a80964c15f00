"""What memory is available is what the narrowest control group leaves."""

from pathlib import Path

import pytest

from shared.process.memory.available_memory import available_memory_bytes

GIB = 2**30
MEMINFO = "MemTotal: 33554432 kB\nMemAvailable: 16777216 kB\nHugePages_Total: 0\n"
WITHOUT_LIMIT = 9223372036854771712  # what version 1 says


def write(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def machine(root: Path, groups: str) -> None:
    write(root, "proc/meminfo", MEMINFO)
    write(root, "proc/self/cgroup", groups)


def version_1(root: Path, group: str, limit: int, used: int, cached: int = 0) -> None:
    folder = f"sys/fs/cgroup/memory{group}"
    write(root, f"{folder}/memory.limit_in_bytes", f"{limit}\n")
    write(root, f"{folder}/memory.usage_in_bytes", f"{used}\n")
    stat = f"inactive_file 7\ntotal_inactive_file {cached}\ntotal_active_file 0\n"
    write(root, f"{folder}/memory.stat", stat)


def version_2(root: Path, group: str, limit: int | str, used: int, cached: int = 0) -> None:
    folder = f"sys/fs/cgroup{group}"
    write(root, f"{folder}/memory.max", f"{limit}\n")
    write(root, f"{folder}/memory.current", f"{used}\n")
    write(root, f"{folder}/memory.stat", f"anon 5\ninactive_file 0\nactive_file {cached}\n")


def test_without_groups_it_is_what_linux_could_give(tmp_path: Path) -> None:
    machine(tmp_path, "0::/\n")
    assert available_memory_bytes(tmp_path) == 16 * GIB


def test_this_machine_has_some() -> None:
    assert available_memory_bytes() > 2**20


def test_a_group_of_version_2_limits_it_but_for_pages_of_files(tmp_path: Path) -> None:
    machine(tmp_path, "0::/job/step\n")
    version_2(tmp_path, "/job", 8 * GIB, used=6 * GIB, cached=3 * GIB)
    version_2(tmp_path, "/job/step", "max", used=GIB)
    assert available_memory_bytes(tmp_path) == 5 * GIB


def test_a_group_of_version_1_limits_it_and_those_of_other_controllers_do_not(
    tmp_path: Path,
) -> None:
    machine(tmp_path, "9:cpu,cpuacct:/b\n4:memory:/a/b\n0::/\n")
    version_1(tmp_path, "", WITHOUT_LIMIT, used=20 * GIB)
    version_1(tmp_path, "/a", 4 * GIB, used=3 * GIB, cached=GIB)
    version_1(tmp_path, "/a/b", WITHOUT_LIMIT, used=GIB)
    version_1(tmp_path, "/b", GIB, used=0)
    assert available_memory_bytes(tmp_path) == 2 * GIB


@pytest.mark.parametrize("path", ["/docker/0123abcd", "/../../system.slice"])
def test_in_a_container_a_path_of_the_host_leads_to_the_containers_group(
    path: str, tmp_path: Path
) -> None:
    machine(tmp_path, f"4:memory:{path}\n0::{path}\n")
    version_1(tmp_path, "", 2 * GIB, used=GIB)
    assert available_memory_bytes(tmp_path) == GIB


def test_a_group_above_its_limit_has_nothing_left(tmp_path: Path) -> None:
    machine(tmp_path, "0::/\n")
    version_2(tmp_path, "", GIB, used=2 * GIB)
    assert available_memory_bytes(tmp_path) == 0
