"""An extraction says what memory its processes take, and warns where there is not enough."""

import logging

import pytest

from stage1_extract.extraction.stages import announce_widths as module
from stage1_extract.extraction.stages.announce_widths import announce_widths
from stage1_extract.extraction.stages.stage_widths import choose_widths

ROW_BYTES = 24_700_000  # of r50_800x320


def announced(
    loaders: int, available: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> list[logging.LogRecord]:
    monkeypatch.setattr(module, "available_memory_bytes", lambda: available)
    with caplog.at_level(logging.INFO):
        announce_widths(
            choose_widths(loaders, 16, slots=8, batch_rows=8),
            batch_size=8,
            loaded_bytes=500_000_000,
            slots=8,
            row_bytes=ROW_BYTES,
        )
    return caplog.records


def test_processes_with_too_little_memory_are_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    said, warning = announced(16, 15_000_000_000, monkeypatch, caplog)
    assert "loading in 16 processes (at most 0.50 GB)" in said.getMessage()
    assert "at most 112 computed rows in memory (5.53 GB)" in said.getMessage()
    assert warning.levelno == logging.WARNING
    # 0.5 loaded; 16 x 0.45 and 12 x 0.1 of processes; 2 x 112 + 12 x 8 rows
    assert "the 28 processes that load and write may take 16.8 GB" in warning.getMessage()
    assert "15.0 GB are left to this job" in warning.getMessage()


def test_processes_with_enough_memory_are_not(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(announced(16, 17_000_000_000, monkeypatch, caplog)) == 1


def test_threads_are_not(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    (said,) = announced(0, 0, monkeypatch, caplog)
    assert "loading in a thread, batches of 8, writing in 16 threads" in said.getMessage()
