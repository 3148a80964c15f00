"""Loader processes are not started into a /dev/shm that is too small for them."""

import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from shared.errors import ConfigError
from shared.process import shared_memory
from shared.process.shared_memory import affordable_workers, shared_bytes
from tests.child_processes import PATIENCE_S, REPOSITORY
from tests.small_disk import small_disk

MEGABYTE = 10**6
CONTAINER = 64 * 2**20
VOV_SAMPLE = 6 * 3 * 640 * 1600 * 4  # images of float32

# Prints the most bytes of /dev/shm, in batches, that a DataLoader's processes take.
MEASURE = """
import shutil, sys, time, torch
from torch.utils.data import DataLoader
BYTES = 2**20
class Samples:
    def __len__(self):
        return 40
    def __getitem__(self, index):
        return torch.zeros(BYTES, dtype=torch.uint8)
if __name__ == "__main__":
    workers, batch = int(sys.argv[1]), int(sys.argv[2])
    loader = DataLoader(Samples(), batch_size=batch, collate_fn=list, num_workers=workers)
    used = lambda: shutil.disk_usage("/dev/shm").used
    before, most = used(), 0
    for taken, raw in enumerate(loader):
        for _ in range(10):
            time.sleep(0.02)
            most = max(most, used() - before)
        if taken == 5:
            break
    print(most)
"""


@pytest.fixture
def shm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for a container's /dev/shm."""
    monkeypatch.setattr(shared_memory, "SHM", tmp_path)
    free = type("Usage", (), {"free": CONTAINER})
    monkeypatch.setattr("shutil.disk_usage", {tmp_path: free}.__getitem__)
    return tmp_path


def test_torch_keeps_as_many_batches_in_line_as_we_count() -> None:
    assert DataLoader([0], num_workers=1).prefetch_factor == shared_memory.PREFETCHED


@pytest.mark.parametrize(("workers", "batch_size"), [(1, 1), (2, 3)])
def test_a_loader_takes_what_is_forecast_and_hardly_less(
    workers: int, batch_size: int, tmp_path: Path
) -> None:
    script = tmp_path / "measure.py"
    script.write_text(MEASURE)
    words = [sys.executable, str(script), str(workers), str(batch_size)]
    isolated = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /dev/shm && exec "$@"', "-"]
    done = subprocess.run(
        [*isolated, *words],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    if done.returncode and "Traceback" not in done.stderr:
        pytest.skip(f"/dev/shm cannot be replaced here: {done.stderr}")
    batch_bytes = batch_size * 2**20
    most, forecast = int(done.stdout), shared_bytes(batch_bytes, workers)
    assert most <= forecast
    assert most >= (2 * workers + 1) * batch_bytes


def test_without_loader_processes_nothing_is_needed(shm: Path) -> None:
    assert affordable_workers(0, 4, 10**12) == 0


def test_what_fits_is_started(shm: Path) -> None:
    assert affordable_workers(3, 0, 2 * MEGABYTE) == 3
    assert affordable_workers(None, 3, 2 * MEGABYTE) == 3


def test_named_processes_that_do_not_fit_are_refused_with_the_bytes_and_a_way_out(
    shm: Path,
) -> None:
    needed = 4 * (VOV_SAMPLE + 2**16)
    with pytest.raises(ConfigError) as refused:
        affordable_workers(1, 0, VOV_SAMPLE)
    assert str(refused.value) == (
        f"--workers 1: 1 loader processes need up to {needed} bytes of shared memory (73728000 "
        f"bytes a batch), and {shm} has 67108864 bytes free. Use --workers 0, which needs none, or "
        f"a larger {shm} (docker run --shm-size 1g)"
    )


def test_the_message_names_a_number_of_processes_that_fits(shm: Path) -> None:
    with pytest.raises(ConfigError, match=r"Use --workers 2, which fits, or --workers 0"):
        affordable_workers(8, 0, 10 * MEGABYTE)
    assert affordable_workers(2, 0, 10 * MEGABYTE) == 2


def test_by_default_as_many_as_fit_are_started_and_the_log_says_why(
    shm: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert affordable_workers(None, 8, 10 * MEGABYTE) == 2
    assert affordable_workers(None, 8, VOV_SAMPLE) == 0
    assert "starting 2" in caplog.messages[0]
    assert "starting 0" in caplog.messages[1]
    assert f"{shm} has {CONTAINER} bytes free" in caplog.text


def test_a_system_without_dev_shm_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_memory, "SHM", tmp_path / "none")
    assert affordable_workers(4, 0, 10**15) == 4


def test_a_small_mounted_disk_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with small_disk(tmp_path / "shm", CONTAINER) as disk:
        monkeypatch.setattr(shared_memory, "SHM", disk)
        with pytest.raises(ConfigError, match=f"has {CONTAINER} bytes free"):
            affordable_workers(1, 0, VOV_SAMPLE)
