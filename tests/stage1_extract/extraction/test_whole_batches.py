"""A shard of a store that a GPU fills holds whole batches; on a CPU nothing depends on them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cache.coordination.store import Store
from cache.delta.delta_plan import BASE, ROW
from cache.delta.delta_rows import part_arrays, part_rows, part_writer
from cache.format.layout import Shard, slots_per_shard
from cache.format.schema import array_specs, row_bytes
from cache.reader import CachedFeatures
from cache.storage.location import as_store_path
from shared.config.classes import CAMERAS, LIDAR
from shared.config.cut import BACKBONE_CUT
from shared.config.preset_catalogue import r50_800x320, tiny, vov_1600x640
from stage1_extract.backbones.sensor_rows import SensorRows
from stage1_extract.extraction import extraction_identity
from stage1_extract.extraction.extraction_identity import open_or_create_store
from stage1_extract.extraction.fill_store import planned_batches
from stage1_extract.nuscenes.dataset_options import DatasetChoice
from stage1_extract.nuscenes.nuscenes_tables import read_tables
from stage1_extract.preprocessing.delta_frames import DeltaFrames
from tests.cache.conftest import TOKENS, fill, make_writer
from tests.cache.delta.small_deltas import delta_metadata, plan_of

SAMPLES = 21
MIB = 2**20


def shards_of(store: Store) -> Iterator[Shard]:
    return (store.shard(index) for index in store.all_shards)


def sizes(store: Store, batch_size: int) -> list[tuple[bool, int]]:
    """Whether a planned batch is in the last shard of its variant, and its samples."""
    last = store.layout.shards_per_variant - 1
    return [
        (shard.index % store.layout.shards_per_variant == last, len(places))
        for shard, places in planned_batches(shards_of(store), batch_size)
    ]


def new_store(
    folder: Path, root: Path, device: str, *, batch_size: int, fitting: float, variants: int = 1
) -> Store:
    """Create a store as `extract-features` does; so many rows fit in the size of a shard."""
    record = read_tables(root, "v1.0-mini", "mini_train")[0]
    records = [replace(record, token=f"sample {i}") for i in range(SAMPLES)]
    boxes = len(record.annotations.labels)
    frozen: Any = SimpleNamespace(
        preset=tiny(),
        cut=BACKBONE_CUT,
        device=torch.device(device),
        precision="float32",
        digests=lambda: {"pts_": "0" * 64},
    )
    writer = open_or_create_store(
        as_store_path(folder / f"{device} {batch_size} {fitting} {variants}"),
        frozen,
        records,
        DatasetChoice(
            nuscenes=root,
            version="v1.0-mini",
            split="mini_train",
            infos=None,
            box_convention="auto",
            existing_only=False,
        ),
        origin="made up",
        command=[],
        codec=None,
        variants=variants,
        batch_size=batch_size,
        shard_bytes=int(fitting * row_bytes(array_specs(tiny(), boxes))),
    )
    return writer.store


@pytest.fixture(autouse=True)
def _names_any_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction_identity, "device_name", str)


@pytest.mark.parametrize("variants", [1, 2])
@pytest.mark.parametrize(
    ("batch_size", "fitting", "slots"), [(4, 10, 8), (4, 3.5, 4), (3, 9.9, 9), (4, 100, 21)]
)
def test_only_the_last_shard_of_a_variant_pads_a_batch(
    synthetic_root: Path,
    tmp_path: Path,
    batch_size: int,
    fitting: float,
    slots: int,
    variants: int,
) -> None:
    options: dict[str, Any] = {"batch_size": batch_size, "fitting": fitting, "variants": variants}
    store = new_store(tmp_path, synthetic_root, "cuda", **options)

    batches = sizes(store, batch_size)

    assert store.layout.slots == slots
    assert {samples for is_last, samples in batches if not is_last} <= {batch_size}
    assert len(batches) == variants * -(-SAMPLES // batch_size)  # the fewest there can be


@pytest.mark.parametrize("fitting", [0.5, 3, 10, 100])
def test_on_a_cpu_a_shard_holds_what_fits_whatever_the_batch_size(
    synthetic_root: Path, tmp_path: Path, fitting: float
) -> None:
    store = new_store(tmp_path, synthetic_root, "cpu", batch_size=4, fitting=fitting)
    assert store.layout.slots == max(1, min(SAMPLES, int(fitting)))


def test_shards_of_the_default_size_in_the_official_presets() -> None:
    r50, vov = (row_bytes(array_specs(preset, 40)) for preset in (r50_800x320(), vov_1600x640()))
    assert [slots_per_shard(r50, 28130, 256 * MIB, batch) for batch in (1, 2, 4)] == [10, 10, 8]
    assert [slots_per_shard(vov, 28130, 256 * MIB, batch) for batch in (1, 2, 4)] == [4, 4, 4]


@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize("cameras", [1, 2, 3, 6])
def test_a_shard_of_a_delta_holds_whole_batches_of_samples(
    tmp_path: Path, cameras: int, batch_size: int
) -> None:
    fill(make_writer(tmp_path / "base", rows_per_shard=5))
    base = CachedFeatures(tmp_path / "base")
    letters: dict[str, str] = dict.fromkeys(CAMERAS[:cameras], ROW * len(TOKENS))
    plan = plan_of(base, {**letters, LIDAR: ROW * 4 + BASE})
    metadata, place = delta_metadata(base, plan), as_store_path(tmp_path / "delta")
    rows: dict[str, Sequence[tuple[int, str]]] = {
        "camera": part_rows(plan, "camera"),
        "lidar": part_rows(plan, "lidar"),
    }
    fitting = {"camera": 13, "lidar": 3}  # rows in the size of a shard

    for part in ("camera", "lidar"):
        size = fitting[part] * row_bytes(part_arrays(base.store.metadata, part))
        options: dict[str, Any] = {"shard_bytes": size, "batch_size": batch_size}
        writer = part_writer(place, metadata, base.store, part, **options)
        assert writer is not None
        store = writer.store
        nothing: Any = None
        frames = DeltaFrames(
            [], base.preset, None, nothing, rows=rows[part], slots=store.layout.slots
        )
        live: Any = SimpleNamespace(raw=frames)
        planned = planned_batches(shards_of(store), batch_size, SensorRows(live, frames))
        samples = [len(places) for _, places in planned]
        assert samples[:-1] == [batch_size] * (len(samples) - 1)
        assert sum(samples) == (len(TOKENS) if part == "camera" else 4)
