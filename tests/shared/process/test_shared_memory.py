"""Loader processes are not started into a /dev/shm that is too small for them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from shared.errors import ConfigError
from shared.process import shared_memory
from shared.process.shared_memory import affordable_workers
from tests.small_disk import small_disk

MEGABYTE = 10**6
CONTAINER = 64 * 2**20
VOV_SAMPLE = 6 * 3 * 640 * 1600 * 4  # images of float32


def samples_of(sample_bytes: int) -> Callable[[int], int]:
    """Return the bytes that a number of processes needs, two samples each and two more."""
    return lambda workers: (2 * workers + 2) * sample_bytes if workers else 0


@pytest.fixture
def shm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for a container's /dev/shm."""
    monkeypatch.setattr(shared_memory, "SHM", tmp_path)
    free = type("Usage", (), {"free": CONTAINER})
    monkeypatch.setattr("shutil.disk_usage", {tmp_path: free}.__getitem__)
    return tmp_path


def test_without_loader_processes_nothing_is_needed(shm: Path) -> None:
    assert affordable_workers(0, 4, samples_of(10**12)) == 0


def test_what_fits_is_started(shm: Path) -> None:
    assert affordable_workers(3, 0, samples_of(2 * MEGABYTE)) == 3
    assert affordable_workers(None, 3, samples_of(2 * MEGABYTE)) == 3


def test_named_processes_that_do_not_fit_are_refused_with_the_bytes_and_a_way_out(
    shm: Path,
) -> None:
    needed = 4 * VOV_SAMPLE
    with pytest.raises(ConfigError) as refused:
        affordable_workers(1, 0, samples_of(VOV_SAMPLE))
    assert str(refused.value) == (
        f"--workers 1: 1 loader processes need up to {needed} bytes of shared memory, "
        f"and {shm} has 67108864 bytes free. Use --workers 0, which needs none, or "
        f"a larger {shm} (docker run --shm-size 1g)"
    )


def test_the_message_names_a_number_of_processes_that_fits(shm: Path) -> None:
    with pytest.raises(ConfigError, match=r"Use --workers 2, which fits, or --workers 0"):
        affordable_workers(8, 0, samples_of(10 * MEGABYTE))
    assert affordable_workers(2, 0, samples_of(10 * MEGABYTE)) == 2


def test_by_default_as_many_as_fit_are_started_and_the_log_says_why(
    shm: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert affordable_workers(None, 8, samples_of(10 * MEGABYTE)) == 2
    assert affordable_workers(None, 8, samples_of(VOV_SAMPLE)) == 0
    assert "starting 2" in caplog.messages[0]
    assert "starting 0" in caplog.messages[1]
    assert f"{shm} has {CONTAINER} bytes free" in caplog.text


def test_processes_of_one_machine_share_its_memory(shm: Path) -> None:
    assert affordable_workers(None, 8, samples_of(5 * MEGABYTE), 1) == 5
    assert affordable_workers(None, 8, samples_of(5 * MEGABYTE), 2) == 2
    with pytest.raises(ConfigError) as refused:
        affordable_workers(8, 0, samples_of(100 * MEGABYTE), 2)
    said = str(refused.value)
    assert f"{shm} has {CONTAINER // 2} bytes free for each of 2 processes" in said
    assert "--shm-size 4g" in said  # 2 x 1.8 GB


def test_a_system_without_dev_shm_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_memory, "SHM", tmp_path / "none")
    assert affordable_workers(4, 0, samples_of(10**15)) == 4


def test_a_small_mounted_disk_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with small_disk(tmp_path / "shm", CONTAINER) as disk:
        monkeypatch.setattr(shared_memory, "SHM", disk)
        with pytest.raises(ConfigError, match=f"has {CONTAINER} bytes free"):
            affordable_workers(1, 0, samples_of(VOV_SAMPLE))
