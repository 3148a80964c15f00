"""Whoever reads for hours says so, also without a terminal."""

import logging
from pathlib import Path

import pytest

from cache.coordination.store import open_store
from cache.verification.check_sources import require_same_sources
from cache.verification.read_progress import ReadProgress
from cache.verification.verify_store import verify, verify_sources
from tests.cache.conftest import write_sources


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> list[float]:
    """The time, which the test moves."""
    caplog.set_level(logging.INFO)
    now = [0.0]
    monkeypatch.setattr("cache.verification.read_progress.time.monotonic", lambda: now[0])
    return now


def test_a_line_at_the_start_and_about_every_minute(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    with ReadProgress("rows of a.zarr", 10, 2 * 10**9) as progress:
        for second in (20, 40, 61, 90, 130, 300):
            clock[0] = second
            progress.add(2 if second == 300 else 1)
        clock[0] = 400
        progress.add(3)  # the last: what was read is said by whoever reads
    assert caplog.messages == [
        "rows of a.zarr: 10 rows to read, 20 GB uncompressed",
        "rows of a.zarr: 3 of 10 rows read, about 2 min left",
        "rows of a.zarr: 5 of 10 rows read, about 2 min left",
        "rows of a.zarr: 7 of 10 rows read, about 2 min left",
    ]


def test_nothing_to_read_is_no_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with ReadProgress("rows of a.zarr", 0, 8):
        pass
    assert not caplog.messages


def test_verifying_and_comparing_sensor_files_say_how_much_there_is(
    finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    root, store = write_sources(tmp_path / "root"), open_store(finished)
    verify(store)
    verify_sources(store, root)
    require_same_sources(store, root)
    rows, *files = caplog.messages
    assert rows.startswith(f"rows of {finished}: 5 rows to read, ")
    assert files == [f"sensor files of {finished}: 5 rows to read"] * 2
