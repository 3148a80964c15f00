"""A process of its own loads what threads load, and raises what they raise."""

import multiprocessing
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
import torch

from cache.delta.conditioned_features import ConditionedFeatures
from cache.delta.delta_metadata import ConditionSummary
from cache.delta.open_features import open_delta
from cache.format.metadata import METADATA_FILE
from cache.reader import CachedFeatures
from shared.config.classes import CAMERAS, LIDAR
from shared.data.batch import Batch
from shared.data.batch_slots import batch_slots, slot_arrays
from shared.data.features import QuantisedMap
from shared.errors import CacheError, MissingRowError
from stage2_train.data.dataset import StoreDataset
from stage2_train.data.loader import BatchLoader
from stage2_train.data.loading_options import PROCESS, THREADS
from stage2_train.data.reading_ahead import batches_ahead
from stage2_train.data.sampler import Place
from tests import fake_gpu
from tests.cache.delta.small_deltas import plan_of, write_small_delta
from tests.stage2_train.data.copied_store import dataset_of, file_of


def contents(batch: Batch) -> list[torch.Tensor]:
    quantised = [
        tensor
        for name in sorted(batch.quantised)
        for map_ in [batch.quantised[name]]
        for tensor in (map_.values, map_.scale, map_.zero)
    ]
    maps = [batch.maps[name] for name in sorted(batch.maps)]
    return [*maps, *quantised, batch.img_from_lidar, *batch.boxes_lidar, *batch.labels]


def assert_same(batches: Sequence[Batch], twins: Sequence[Batch]) -> None:
    for batch, twin in zip(batches, twins, strict=True):
        assert (batch.tokens, batch.conditions) == (twin.tokens, twin.conditions)
        pairs = zip(contents(batch), contents(twin), strict=True)
        assert all(torch.equal(mine, other) for mine, other in pairs)


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("codec", ["float16", "8 bit"])
def test_batches_are_those_of_threads(
    workers: int, codec: str, tiny_store: Path, tiny_store_8bit: Path
) -> None:
    """Including the last, smaller one; all are held, so no slot or memory is reused too early."""
    dataset = dataset_of(tiny_store if codec == "float16" else tiny_store_8bit)
    lost = ((), (LIDAR,), CAMERAS, (CAMERAS[2],))
    samples = [Place(0, i % 3, lost[i % 4]) for i in range(19)]
    places = [samples[i : i + 2] for i in range(0, 19, 2)]

    loaded = list(BatchLoader(dataset, places, workers, PROCESS))

    assert_same(loaded, list(BatchLoader(dataset, places, 1, THREADS)))


@pytest.mark.parametrize("gpu", ["a stand-in", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_with_a_gpu_batches_are_in_page_locked_memory_and_return_from_it_whole(
    gpu: str, tiny_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = fake_gpu.install(monkeypatch) if gpu == "a stand-in" else None
    dataset, places = dataset_of(tiny_store), [[Place(0, i % 3)] for i in range(12)]
    loaded = list(BatchLoader(dataset, places, 2, PROCESS))
    assert all(map_.is_pinned() for batch in loaded for map_ in batch.maps.values())
    sent = [batch.to("cuda").to("cpu") for batch in loaded]
    assert_same(sent, list(BatchLoader(dataset, places, 2, THREADS)))
    assert stand_in is None or stand_in.faults == []


@pytest.fixture
def delta(tiny_store: Path, tmp_path: Path) -> ConditionedFeatures:
    base = CachedFeatures(tiny_store)
    plan = plan_of(base, {LIDAR: "rr.", CAMERAS[2]: "..r"}, has_geometry=True)
    summary = ConditionSummary(name="shaken", family="shaken", severity=None, source="a test")
    path = tmp_path / "train.shaken.zarr"
    write_small_delta(path, base, plan, name="shaken", condition=summary)
    return open_delta(path, base)


def test_conditions_and_absent_sensors_reach_the_process(delta: ConditionedFeatures) -> None:
    dataset = StoreDataset(delta.base, delta.base.tokens, {"shaken": delta})
    dataset.require_droppable([(LIDAR,)])
    shaken = [Place(0, i, condition="shaken") for i in range(3)]
    places = [[*shaken, Place(0, 1, (LIDAR,), condition="shaken")], [Place(0, 0)]]

    loaded = list(BatchLoader(dataset, places, 2, PROCESS))

    assert_same(loaded, list(BatchLoader(dataset, places, 2, THREADS)))
    assert [batch.conditions for batch in loaded] == [("shaken",) * 3 + ("no lidar",), ("all",)]


def test_no_batches_start_no_process(tiny_store: Path) -> None:
    assert list(BatchLoader(dataset_of(tiny_store), [], 1, PROCESS)) == []


def test_reading_ahead_is_bounded(tiny_store: Path) -> None:
    asked = []

    def places() -> Iterator[list[Place]]:
        for number in cycle(range(3)):
            asked.append(number)
            yield [Place(0, number)]

    batches = iter(BatchLoader(dataset_of(tiny_store), places(), 2, PROCESS))
    for taken in range(1, 10):
        next(batches)
        assert len(asked) == batches_ahead(2, 1) + 2 + taken


def error_of(loader: str, path: Path, places: list[list[Place]]) -> tuple[int, CacheError]:
    """Return how many batches came before the error, and the error."""
    taken: list[Batch] = []
    with pytest.raises(CacheError) as caught:
        taken.extend(BatchLoader(dataset_of(path), places, 2, loader))
    return len(taken), caught.value


def test_a_damaged_row_is_the_error_that_threads_raise_in_its_turn(copy: Path) -> None:
    file = file_of(copy, "lidar/stride8")
    content = bytearray(file.read_bytes())
    slots = CachedFeatures(copy).store.layout.slots
    index = np.frombuffer(bytes(content[-16 * slots - 4 : -4]), "<u8").reshape(slots, 2)
    content[int(index[2, 0]) + 40] ^= 1
    file.write_bytes(content)
    places = [[Place(0, number)] for number in (0, 1, 0, 1, 0, 2, 0)]

    (taken, error), (expected, twin) = (error_of(way, copy, places) for way in (PROCESS, THREADS))

    assert taken == expected == 5
    assert (type(error), str(error)) == (type(twin), str(twin))
    assert "is damaged in shard 0" in str(error)
    assert not multiprocessing.active_children()


def test_a_missing_file_and_a_missing_row_are_the_errors_that_threads_raise(copy: Path) -> None:
    file_of(copy, "annotations/labels").unlink()
    errors = [str(error_of(way, copy, [[Place(0, 0)]])[1]) for way in (PROCESS, THREADS)]
    assert errors[0] == errors[1]
    assert "is missing" in errors[0]
    with pytest.raises(MissingRowError, match="variant 7 is not in"):
        list(BatchLoader(dataset_of(copy), [[Place(7, 0)]], 1, PROCESS))


def test_a_store_that_cannot_be_opened_again_is_the_error_of_opening_it(copy: Path) -> None:
    loader = BatchLoader(dataset_of(copy), [[Place(0, 0)]], 1, PROCESS)
    (copy / METADATA_FILE).write_text("{")
    with pytest.raises(CacheError) as expected:
        CachedFeatures(copy)
    with pytest.raises(CacheError) as caught:
        list(loader)
    assert str(caught.value) == str(expected.value)


def test_an_error_of_ours_comes_with_the_traceback_of_the_process(tiny_store: Path) -> None:
    with pytest.raises(IndexError) as caught:
        list(BatchLoader(dataset_of(tiny_store), [[Place(0, 99)]], 1, PROCESS))
    assert "in the loader process:" in caught.value.__notes__[0]
    assert "dataset.py" in caught.value.__notes__[0]


def test_slots_hold_the_buffers_of_every_batch_size(tiny_store_8bit: Path) -> None:
    like = CachedFeatures(tiny_store_8bit).blank_maps
    slots = batch_slots(like, 3, 2)
    first, second = slot_arrays(slots, 0, like, 3), slot_arrays(slots, 1, like, 2)
    for array in first.arrays:
        array[...] = 7
    for array in second.arrays:
        array[...] = 9
    assert all((array == 7).all() for array in slot_arrays(slots, 2, like, 3).arrays)
    for values in slot_arrays(slots, 3, like, 2).sample(1).values():
        assert isinstance(values, QuantisedMap)
        assert (values.values == 9).all()
        assert (values.scale == 9).all()
    slots.close_file()
