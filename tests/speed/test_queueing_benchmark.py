"""The benchmark of queueing runs with threads and with processes that write."""

from pathlib import Path

import pytest

from benchmarks.speed import queueing
from benchmarks.speed.extraction.benchmark_frames import benchmark_frames
from shared.config.preset_catalogue import tiny
from stage1_extract.backbones.live import LiveFeatures
from stage1_extract.backbones.weights import frozen_backbones


@pytest.mark.parametrize("writing", ["threads", "processes"])
def test_a_device_that_only_queues_is_timed_beside_loading_and_writing(
    synthetic_root: Path, tmp_path: Path, writing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queueing, "BATCH", 2)
    (tmp_path / "nuscenes").symlink_to(synthetic_root)
    batches = queueing.FIRST + 1
    _, records = benchmark_frames(tmp_path, Path("no real frames"), 2 * batches)
    frozen, _ = frozen_backbones(tiny(), None)
    row = queueing.beside(LiveFeatures(records, frozen), records, tmp_path, writing, 200)
    assert row["writing"] == writing
    assert row["queueing_ms"] > 0
    assert not (tmp_path / "store.zarr").exists()
