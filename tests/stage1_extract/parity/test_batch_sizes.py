"""A store made in batches of four is accepted at its own batch size and at others."""

from pathlib import Path

import pytest
import torch

from cache.reader import CachedFeatures
from stage1_extract.__main__ import main as extract_features
from stage1_extract.backbones.live import LiveFeatures
from stage1_extract.backbones.weights import frozen_backbones
from stage1_extract.check_parity import main as check_parity
from stage1_extract.nuscenes.nuscenes_tables import read_tables
from stage1_extract.parity.batch_composition import read_as_extracted, read_batches
from stage1_extract.parity.compare_sources import Extent, compare_sources
from tests import fake_gpu

STORE_BATCH = 4
SLOTS = 5  # of a shard: batches of samples 0 to 3, 4, and 5


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_store_made_in_batches_of_four_is_accepted_at_batch_sizes_1_2_and_4(
    device: str, synthetic_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "stage1_extract.backbones.weights.available_device", lambda: torch.device(device)
    )
    path, split = tmp_path / "store.zarr", "mini_train+mini_val"
    where = ["--nuscenes", str(synthetic_root), "--version", "v1.0-mini", "--split", split]
    extraction = ["tiny", *where, "--store", str(path), "--batch-size", str(STORE_BATCH)]
    assert extract_features(extraction) == 0
    store = CachedFeatures(path)
    records = read_tables(synthetic_root, "v1.0-mini", split)
    frozen, _ = frozen_backbones(store.preset, None)
    assert frozen.device.type == device
    own = STORE_BATCH if device == "cuda" else 1  # a CPU computes samples one at a time
    extent = Extent(
        rows=len(records),
        detector_samples=2,
        batch_sizes=(1, 2, STORE_BATCH),
        exact_at=(own,),
        slots=len(records),
    )

    rows = compare_sources(LiveFeatures(records, frozen), store, extent)

    assert [(row.quantity, row.batch_size) for row in rows if not row.passed] == []
    exact = {row.batch_size for row in rows if "differ" in row.quantity and row.allowed == 0}
    assert exact == {own}


def test_a_store_made_on_a_stand_in_for_a_gpu_passes_the_check_there(
    synthetic_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    gpu = fake_gpu.install(monkeypatch)
    path, where = tmp_path / "store.zarr", ["--nuscenes", str(synthetic_root)]
    split = ["--version", "v1.0-mini", "--split", "mini_train"]
    assert (
        extract_features(["tiny", *where, *split, "--store", str(path), "--batch-size", "2"]) == 0
    )

    assert check_parity([str(path), *where]) == 0

    assert "bit-equality was asked at batch size 2" in capsys.readouterr().out
    assert gpu.faults == []


class Recorder:
    """A source that notes the batches it is asked for and returns the tokens themselves."""

    def __init__(self, samples: int) -> None:
        self.tokens = tuple(f"t{i}" for i in range(samples))
        self.batches: list[tuple[str, ...]] = []

    def read(self, tokens: list[str], variant: int, camera_variant: int | None) -> list[str]:
        self.batches.append(tuple(tokens))
        return list(tokens)


def test_samples_are_read_in_the_batches_of_the_extraction() -> None:
    source = Recorder(6)

    frames = read_as_extracted(source, (5, 2, 4), 0, STORE_BATCH, SLOTS)  # type: ignore[arg-type]

    assert frames == ["t5", "t2", "t4"]
    assert source.batches == [("t5",) * 4, ("t0", "t1", "t2", "t3"), ("t4",) * 4]


def test_a_last_batch_is_filled_up_with_its_last_sample() -> None:
    source = Recorder(6)

    frames = read_batches(source, (5, 2, 4), 0, 2)  # type: ignore[arg-type]

    assert frames == ["t5", "t2", "t4"]
    assert source.batches == [("t5", "t2"), ("t4", "t4")]
