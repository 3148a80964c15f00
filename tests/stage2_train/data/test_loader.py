"""Threads read batches ahead, in order, and end when they are no longer needed."""

import shutil
import threading
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from cache.coordination.null_store import null_path
from cache.reader import CachedFeatures
from shared.config.classes import CAMERAS, LIDAR
from shared.data.batch import Batch, collate
from shared.data.features import Frame, MapValues
from shared.data.sensor_drop import Absent, SensorDrop, condition, require_remaining, without
from shared.data.targets import with_trainable_annotations
from shared.errors import CacheError, ConfigError
from stage2_train.data.dataset import StoreDataset
from stage2_train.data.loader import BatchLoader, evaluation_batches
from stage2_train.data.loader_threads import LoaderThreads
from stage2_train.data.sampler import EpochSampler, Place

LOSSES: tuple[Absent, ...] = ((), (LIDAR,), CAMERAS, (CAMERAS[2],))


@pytest.fixture(params=["float16", "8 bit"])
def store(
    request: pytest.FixtureRequest, tiny_store: Path, tiny_store_8bit: Path
) -> CachedFeatures:
    return CachedFeatures(tiny_store if request.param == "float16" else tiny_store_8bit)


@pytest.fixture
def dataset(tiny_store: Path) -> StoreDataset:
    store = CachedFeatures(tiny_store)
    return StoreDataset(store, store.tokens)


def loader_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("loader")]


def assert_equal(batch: Batch, twin: Batch) -> None:
    assert batch.tokens == twin.tokens
    assert batch.conditions == twin.conditions
    assert torch.equal(batch.img_from_lidar, twin.img_from_lidar)
    for boxes, expected in zip(batch.boxes_lidar, twin.boxes_lidar, strict=True):
        assert torch.equal(boxes, expected)
    maps, of_twin = batch.to("cpu").maps, twin.to("cpu").maps
    assert maps.keys() == of_twin.keys()
    assert all(torch.equal(maps[name], of_twin[name]) for name in maps)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_a_batch_is_its_samples_without_their_absent_sensors(
    store: CachedFeatures, workers: int
) -> None:
    dataset = StoreDataset(store, store.tokens)
    batches = [[Place(0, i % 3, lost) for i in range(2)] for lost in LOSSES]
    batches.append([Place(0, i % 3, lost) for i, lost in enumerate(LOSSES)])
    loaded = list(BatchLoader(dataset, batches, workers))
    assert len(loaded) == len(batches)
    for places, batch in zip(batches, loaded, strict=True):
        read = [store.read([store.tokens[place.sample]])[0] for place in places]
        dropped = [
            without(features, store.null, place.absent)
            for features, place in zip(read, places, strict=True)
        ]
        samples = [with_trainable_annotations(features, store.preset.grid) for features in dropped]
        names = tuple(condition(place.absent) for place in places)
        assert_equal(batch, replace(collate(samples), conditions=names))


def test_conditions_have_names_to_log_them_by() -> None:
    names = [condition(lost) for lost in (*LOSSES, (CAMERAS[3], CAMERAS[0]))]
    assert names == [
        "all",
        "no lidar",
        "no cameras",
        "no CAM_FRONT_LEFT",
        "no CAM_FRONT and CAM_BACK",
    ]


def test_maps_of_an_absent_sensor_are_not_read(
    dataset: StoreDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[set[str]] = []
    honest = CachedFeatures.read_into

    def spy(
        self: CachedFeatures, maps: Mapping[str, MapValues], token: str, *variants: int | None
    ) -> Frame:
        read.append(set(maps))
        return honest(self, maps, token, *variants)

    _ = dataset.null
    monkeypatch.setattr(CachedFeatures, "read_into", spy)
    list(BatchLoader(dataset, [[Place(0, 0, lost)] for lost in LOSSES], 0))
    everything = set(dataset.blank_maps)
    cameras = {name for name in everything if name.startswith("camera/")}
    assert read == [everything, cameras, everything - cameras, everything]


def test_the_variants_of_a_place_are_the_variants_that_are_read(
    dataset: StoreDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    honest = dataset.store.read_into

    def read_into(
        maps: Mapping[str, MapValues], token: str, variant: int, camera_variant: int | None
    ) -> Frame:
        asked.append((token, variant, camera_variant))
        return honest(maps, token)

    monkeypatch.setattr(dataset.store, "read_into", read_into)
    list(BatchLoader(dataset, [[Place(2, 0), Place(1, 2, camera_variant=4)]], 0))
    assert asked == [(dataset.tokens[0], 2, None), (dataset.tokens[2], 1, 4)]


def test_null_features_are_read_once(
    dataset: StoreDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing, reads = dataset.store.null, []
    monkeypatch.setattr(CachedFeatures, "null", property(lambda self: reads.append(1) or nothing))
    sampler = EpochSampler(3, 3, seed=0, drop=SensorDrop(lidar=0.5, cameras=0.5))
    dataset.require_droppable(SensorDrop().possible)
    list(islice(BatchLoader(dataset, sampler, workers=2), 4))
    assert len(reads) == 1


def test_several_threads_keep_the_order(dataset: StoreDataset) -> None:
    taken = [
        list(islice(BatchLoader(dataset, EpochSampler(3, 2, 1, drop=SensorDrop()), workers), 9))
        for workers in (0, 4)
    ]
    for batch, twin in zip(*taken, strict=True):
        assert_equal(batch, twin)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_row_is_raised_in_its_turn_and_the_threads_end(
    dataset: StoreDataset, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = dataset.read

    def broken(place: Place, maps: Mapping[str, MapValues]) -> Frame:
        if place.sample == 2:
            raise CacheError("row 2 is damaged")
        return honest(place, maps)

    monkeypatch.setattr(dataset, "read", broken)
    batches = iter(BatchLoader(dataset, [[Place(0, i)] for i in (0, 1, 2, 0)], workers))
    assert [next(batches).tokens[0] for _ in range(2)] == list(dataset.tokens[:2])
    with pytest.raises(CacheError, match="row 2 is damaged"):
        next(batches)
    assert not loader_threads()


def test_a_dropped_iterator_ends_its_threads_and_queued_samples_are_not_read(
    dataset: StoreDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but the first sample are held back until the threads are told to end."""
    begun: list[int] = []
    gate = threading.Event()
    read, cancel = dataset.read, LoaderThreads.cancel

    def held_back(place: Place, maps: Mapping[str, MapValues]) -> Frame:
        begun.append(place.sample)
        assert place.sample == 0 or gate.wait(30)
        return read(place, maps)

    def open_the_gate(threads: LoaderThreads) -> None:
        cancel(threads)
        gate.set()

    monkeypatch.setattr(dataset, "read", held_back)
    monkeypatch.setattr(LoaderThreads, "cancel", open_the_gate)
    batches = iter(BatchLoader(dataset, [[Place(0, i)] for i in (0, 1, 2, 1, 2, 1)], workers=2))
    next(batches)
    assert len(loader_threads()) == 2
    del batches
    assert not loader_threads()
    assert set(begun) <= {0, 1, 2}
    assert len(begun) <= 3


@pytest.mark.parametrize(("batch_size", "workers", "samples"), [(1, 1, 3), (3, 1, 6), (2, 3, 8)])
def test_reading_ahead_is_bounded(
    dataset: StoreDataset,
    batch_size: int,
    workers: int,
    samples: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Place] = []

    def places() -> object:
        for batch in EpochSampler(3, batch_size, seed=0):
            asked.extend(batch)
            yield batch

    batches = iter(BatchLoader(dataset, places(), workers))  # type: ignore[arg-type]
    next(batches)
    assert len(asked) == samples
    next(batches)
    assert len(asked) == samples + batch_size
    batches.close()  # type: ignore[attr-defined]


def test_evaluation_takes_every_sample_once_without_the_sensors_given(
    dataset: StoreDataset,
) -> None:
    loader = evaluation_batches(dataset, 2, workers=1, absent=(LIDAR,))
    batches = list(loader)
    assert len(loader) == len(batches) == 2
    assert [token for batch in batches for token in batch.tokens] == list(dataset.tokens)
    assert {name for batch in batches for name in batch.conditions} == {"no lidar"}
    null = dataset.null.maps["lidar/stride8"]
    assert np.array_equal(batches[1].maps["lidar/stride8"][0].numpy(), null)


def test_sensors_cannot_be_dropped_without_null_features(tiny_store: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.zarr"
    shutil.copytree(tiny_store, copy)
    shutil.rmtree(null_path(copy))
    store = CachedFeatures(copy)
    dataset = StoreDataset(store, store.tokens)
    with pytest.raises(CacheError, match="no null features, so no sensor can be dropped; run"):
        dataset.require_droppable(SensorDrop().possible)
    with pytest.raises(CacheError, match="no null features"):
        evaluation_batches(dataset, 1, 0, absent=CAMERAS)


def test_the_only_sensor_of_a_preset_cannot_be_dropped(
    dataset: StoreDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    lidar_alone = replace(dataset.store.preset, name="lidar_alone", camera=None)
    monkeypatch.setattr(dataset.store, "_preset", lidar_alone)
    with pytest.raises(ConfigError, match="with no lidar, because lidar_alone has only LiDAR"):
        dataset.require_droppable(SensorDrop().possible)
    with pytest.raises(ConfigError, match="with no cameras, because lidar_alone has only LiDAR"):
        evaluation_batches(dataset, 1, 0, absent=CAMERAS)


def test_something_has_to_remain(dataset: StoreDataset) -> None:
    with pytest.raises(ConfigError, match="no lidar and cameras, because tiny has only LiDAR and"):
        dataset.require_droppable([(LIDAR, *CAMERAS)])


def test_a_preset_without_lidar_can_do_without_one_camera(dataset: StoreDataset) -> None:
    cameras_alone = replace(dataset.store.preset, name="cameras_alone", lidar=None)
    (one_camera,) = SensorDrop(lidar=0.0, cameras=0.0, single_camera=0.5).possible
    require_remaining(one_camera, cameras_alone)
    for absent in SensorDrop().possible:
        with pytest.raises(ConfigError, match="cameras_alone has only cameras"):
            require_remaining(absent, cameras_alone)
