"""A worker, called as Ray calls it but in this process, writes what a plain extraction writes."""

import argparse
import re
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cache.coordination.store import open_store
from cache.inspection.content_digest import content_digest
from cache.storage.location import parse_store_path
from shared.config.cut import BACKBONE_CUT
from shared.config.preset_catalogue import tiny
from shared.errors import DatasetError, FrozenError, IdentityError
from stage1_extract.extraction.extraction_job import ExtractionJob
from stage1_extract.nuscenes.dataset_options import add_dataset_options, chosen_dataset
from stage1_extract.preprocessing.raw_frames import RawFrames

ray_worker = pytest.importorskip(
    "stage1_extract.cluster.ray_worker",
    reason="Ray is not installed: pip install 'frozen-cmt[ray]'",
    exc_type=ImportError,
)


def begun(root: Path, store: Path, monkeypatch: pytest.MonkeyPatch, **changes: object) -> Any:
    """Return a worker that has started."""
    parser = argparse.ArgumentParser()
    add_dataset_options(parser)
    where = ["--nuscenes", str(root), "--version", "v1.0-mini", "--split", "mini_train"]
    dataset = chosen_dataset(parser.parse_args(where))
    frames = RawFrames(dataset.read(), tiny())
    monkeypatch.setattr(ray_worker, "frames_at", lambda _: frames)
    settings = {
        "preset": tiny(),
        "cut": BACKBONE_CUT,
        "checkpoint": None,
        "store": parse_store_path(str(store)),
        "dataset": dataset,
        "command": ("tiny",),
        "codec": None,
        "variants": 1,
        "batch_size": 3,
        "shard_bytes": 2**20,
    }
    worker = ray_worker.RayWorker()
    job = ExtractionJob(**{**settings, **changes})  # type: ignore[arg-type]
    worker.start(job, [None], cores=2, loading=0, is_first=True)
    return worker


def test_shards_side_by_side_are_those_of_a_plain_extraction(
    synthetic_root: Path, tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = begun(synthetic_root, tmp_path / "new.zarr", monkeypatch)
    store = open_store(tmp_path / "new.zarr")
    assert len(store.all_shards) > 1
    with ThreadPoolExecutor(len(store.all_shards)) as threads:
        totals = list(threads.map(worker.extract, store.all_shards))
    assert content_digest(store) == content_digest(open_store(tiny_store))
    assert sum(stages["loading"][1] for stages in totals) == 3
    assert all(seconds > 0 for stages in totals for seconds, _ in stages.values())
    worker.require_unchanged()


def test_samples_loaded_here_are_loaded_one_at_a_time_since_they_share_a_voxel_grid() -> None:
    inside = threading.Semaphore(1)

    class Frames:
        def __getitem__(self, place: tuple[int, int]) -> tuple[int, int]:
            assert inside.acquire(blocking=False), "two samples at a time"
            time.sleep(0.01)
            inside.release()
            return place

    pool = ray_worker.LoadingInTurn(Frames())
    with ThreadPoolExecutor(3) as threads:
        loaded = list(threads.map(lambda n: pool.load((0, n)).result()[0], range(6)))
    assert loaded == [(0, n) for n in range(6)]


def test_what_fails_is_the_shard_with_the_damage_only(
    synthetic_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, store = tmp_path / "nuscenes", tmp_path / "new.zarr"
    shutil.copytree(synthetic_root, root)
    image = sorted((root / "samples/CAM_BACK").iterdir())[0]
    image.unlink()
    worker = begun(root, store, monkeypatch)
    with ThreadPoolExecutor(3) as threads:
        calls = [threads.submit(worker.extract, shard) for shard in (0, 1)]
    with pytest.raises(DatasetError, match=f"image {re.escape(str(image))} cannot be read"):
        calls[0].result()
    assert calls[1].result()
    assert open_store(store).ledger.complete() == {1}


def test_after_stop_what_is_not_computed_is_dropped(
    synthetic_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = begun(synthetic_root, tmp_path / "new.zarr", monkeypatch)
    honest = worker._device_pass
    computing, go_on = threading.Event(), threading.Event()

    def slow(batch: object) -> object:
        computing.set()
        assert go_on.wait(60)
        return honest(batch)

    worker._device_pass = slow
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(worker.extract, 0)
        assert computing.wait(60)
        worker.stop()
        go_on.set()
        with pytest.raises(ray_worker.StoppedShardError):
            call.result(60)
    assert not open_store(tmp_path / "new.zarr").ledger.complete()
    assert not list((tmp_path / "new.zarr/ledger").glob("*.claim"))


def test_a_store_of_other_weights_is_refused(
    synthetic_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(synthetic_root, tmp_path / "new.zarr", monkeypatch)
    with pytest.raises(IdentityError, match="value_format"):
        begun(synthetic_root, tmp_path / "new.zarr", monkeypatch, codec="uint8-zstd-1", variants=1)


def test_backbones_that_change_are_noticed(
    synthetic_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = begun(synthetic_root, tmp_path / "new.zarr", monkeypatch)
    worker._frozen.pts_backbone.state_dict()["blocks.0.1.running_mean"].add_(1.0)
    with pytest.raises(FrozenError, match="pts_backbone changed while extracting"):
        worker.require_unchanged()
