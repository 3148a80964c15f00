"""No stream reads what is not written yet, and no memory is reused while a stream still needs it.

On the stand-in of tests/fake_gpu.py; `pytest -m gpu` compares bits on a real one.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cache.reader import CachedFeatures
from shared.config.preset_catalogue import tiny
from shared.process.device import device_constant
from stage1_extract.__main__ import main as extract_features
from stage1_extract.backbones.frozen import FrozenBackbones
from stage1_extract.backbones.live import LiveFeatures, join_raw
from stage1_extract.backbones.seeded_weights import seed_weights
from stage1_extract.extraction.null_sample import null_raw_frame
from stage1_extract.extraction.stages import stage_widths
from stage1_extract.extraction.stages.device_pass import DevicePass
from tests import fake_gpu
from tests.fake_tensors import Event, FakeGpu, GpuTensor
from tests.stream_order import Timeline

BATCHES, ROWS, PADDED = 3, 2, 3
STEPS = 2.0  # of float16, where kernels may round differently


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGpu]:
    device_constant.cache_clear()
    yield fake_gpu.install(monkeypatch)
    device_constant.cache_clear()


def compute_batches() -> None:
    """Compute batch after batch, and take their rows, as an extraction does."""
    preset = tiny()
    frozen = FrozenBackbones(preset)
    seed_weights(frozen, 0)
    frozen.to_device(torch.device("cuda"))
    device_pass = DevicePass(LiveFeatures([], frozen))
    raw = null_raw_frame(preset)
    assert raw.images is not None
    views, _, *size_px = raw.images.shape
    raw = replace(raw, stripes=np.ones((views, sum(size_px)), np.bool_))
    computed = []
    for _ in range(BATCHES):
        batch = join_raw([raw] * ROWS, size=PADDED, is_pinned=True)
        computed.append(device_pass(batch))
    for rows in computed:
        assert [rows.row(index).frame for index in range(len(rows))] == [raw.frame] * ROWS
        assert rows.seconds() > 0


def test_work_on_three_streams_is_in_order(gpu: FakeGpu) -> None:
    compute_batches()

    assert gpu.faults == []
    image, lidar, copies = gpu.ran["the default stream"], gpu.ran["stream 2"], gpu.ran["stream 1"]
    assert "conv2d" in image
    assert "linalg_vector_norm" in image
    assert {"sparse encoder", "conv2d", "copy to the device"} <= lidar
    assert copies == {"copy_"}


def test_input_that_is_on_the_device_is_waited_for(gpu: FakeGpu) -> None:
    preset = tiny()
    frozen = FrozenBackbones(preset)
    frozen.to_device(torch.device("cuda"))
    raw = join_raw([null_raw_frame(preset)])
    assert raw.images is not None
    assert raw.voxels is not None
    for _ in range(BATCHES):
        images = raw.images.to("cuda").float()
        maps = frozen(images, raw.voxels.to(torch.device("cuda")))
        assert all(isinstance(values, GpuTensor) for values in maps.values())
        del maps

    assert gpu.faults == []
    assert "sparse encoder" in gpu.ran["stream 1"]


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        (Timeline, "wait_stream", "does not wait for stream 2"),
        (GpuTensor, "record_stream", "is freed while stream 1 uses it"),
        (Event, "synchronize", "numpy in the host does not wait for stream 1"),
    ],
)
def test_what_would_be_a_race_is_noticed(
    kind: type, name: str, message: str, gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kind, name, lambda *_: None)

    compute_batches()

    assert any(message in fault for fault in gpu.faults)


def test_a_store_is_extracted_in_batches_beside_processes_as_on_a_cpu(
    tiny_store: Path,
    synthetic_root: Path,
    tmp_path: Path,
    gpu: FakeGpu,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stage_widths, "WORTH_A_PROCESS", 1)  # a process also for three samples
    path = tmp_path / "gpu.zarr"
    where = ["--nuscenes", str(synthetic_root), "--version", "v1.0-mini", "--split", "mini_train"]

    assert extract_features(["tiny", *where, "--store", str(path)]) == 0

    assert gpu.faults == []
    store, expected = CachedFeatures(path), CachedFeatures(tiny_store)
    store.require_complete()
    assert store.identity["precision"].endswith("batches of 8")
    assert store.provenance.device == "a stand-in"
    assert "sparse encoder" not in gpu.ran["the default stream"]
    require_near(store, expected, ("camera", "lidar"))


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_processes_beside_a_device_write_what_threads_write(
    device: str, synthetic_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "stage1_extract.backbones.weights.available_device", lambda: torch.device(device)
    )
    where = ["--nuscenes", str(synthetic_root), "--version", "v1.0-mini", "--split", "mini_train"]
    stores = []
    for workers in ("0", "1"):
        path = tmp_path / f"{workers}.zarr"
        words = ["tiny", *where, "--store", str(path), "--workers", workers, "--batch-size", "2"]
        assert extract_features(words) == 0
        stores.append(CachedFeatures(path))
        stores[-1].require_complete()

    threads, processes = stores
    # spconv may take other tiles at a second time on a GPU, so that LiDAR maps round differently.
    require_near(processes, threads, ("lidar",) if device == "cuda" else ())


def require_near(store: CachedFeatures, expected: CachedFeatures, sensors: tuple[str, ...]) -> None:
    """Compare two stores; maps of these sensors may differ by steps of the largest value."""
    tokens = list(expected.tokens)
    for ours, theirs in zip(store.read(tokens), expected.read(tokens), strict=True):
        assert ours.frame.token == theirs.frame.token
        for name, values in ours.maps.items():
            stored, live = np.asarray(values, np.float32), np.asarray(theirs.maps[name], np.float32)
            step = np.spacing(np.abs(live).max().astype(np.float16)).astype(np.float32)
            allowed = STEPS * step if name.startswith(sensors) else 0
            assert np.abs(stored - live).max() <= allowed, name
