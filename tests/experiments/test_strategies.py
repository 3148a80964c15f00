"""Training with live backbones is, bit by bit, training from a store; it may train them, too."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from benchmarks.experiments.strategies.features_in_memory import FeaturesInMemory
from benchmarks.experiments.strategies.live_detector import LiveDetector
from benchmarks.experiments.strategies.live_frames import LivePlaces, live_batches
from benchmarks.experiments.strategies.live_recipes import finetune, finetune_low, live
from benchmarks.experiments.strategies.live_training import (
    live_detector,
    require_same_source,
    train_live,
)
from benchmarks.experiments.strategies.measured_run import frozen_digests, measured
from benchmarks.experiments.strategies.same_curve import SAME_BITS, curves, gaps
from cache.reader import CachedFeatures
from shared.checkpoint.checkpoint_table import FROZEN_PARTS, belongs
from shared.config.classes import CAMERAS, LIDAR
from shared.config.cut import BACKBONE_CUT
from shared.config.preset_catalogue import tiny
from shared.data.sensor_drop import Absent, SensorDrop
from shared.errors import FrozenError, IdentityError
from shared.model.detector import build_detector
from stage1_extract.__main__ import main as extract_features
from stage1_extract.backbones.frozen import FrozenBackbones
from stage1_extract.backbones.live import LiveFeatures
from stage1_extract.backbones.seeded_weights import seed_weights
from stage1_extract.backbones.weights import frozen_backbones
from stage1_extract.extraction.extraction_identity import draws_of
from stage1_extract.nuscenes.nuscenes_tables import read_tables
from stage1_extract.nuscenes.records import SampleRecord
from stage2_train.data.dataset import StoreDataset
from stage2_train.data.loader import BatchLoader, evaluation_batches, evaluation_places
from stage2_train.data.prefetch import MicroBatches
from stage2_train.data.sampler import Place
from stage2_train.evaluation.detections import detect
from stage2_train.recipes.recipe import Recipe
from stage2_train.recipes.recipes import frozen_a
from stage2_train.run.starting_point import starting_detector
from stage2_train.training.global_batch import GlobalBatch
from stage2_train.training.queued_step import QueuedStep
from stage2_train.training.training_step import TrainingStep


def short(steps: int = 2) -> Recipe:
    """Return frozen_a, of few steps; a seed whose first steps see every kind of absent sensor."""
    drop = SensorDrop(lidar=0.3, cameras=0.3, single_camera=0.2)
    return replace(frozen_a(), epochs=None, steps=steps, batch_size=2, sensor_drop=drop)


@pytest.fixture(scope="module")
def records(synthetic_root: Path) -> list[SampleRecord]:
    return read_tables(synthetic_root, "v1.0-mini", "mini_train")


@pytest.fixture(scope="module")
def store(synthetic_root: Path, tmp_path_factory: pytest.TempPathFactory) -> CachedFeatures:
    """The training scene in two variants."""
    path = tmp_path_factory.mktemp("stores") / "two.zarr"
    where = ["--nuscenes", str(synthetic_root), "--version", "v1.0-mini", "--split", "mini_train"]
    assert extract_features(["tiny", *where, "--store", str(path), "--variants", "2"]) == 0
    return CachedFeatures(path)


@pytest.fixture
def backbones(store: CachedFeatures) -> FrozenBackbones:
    return frozen_backbones(store.preset, None)[0]


def test_cached_and_live_training_have_the_same_bits_in_every_scalar_of_every_step(
    store: CachedFeatures, records: list[SampleRecord], tmp_path: Path
) -> None:
    curve_of = curves(store, records, short(steps=3), tmp_path)

    assert {len(curve) for curve in curve_of.values()} == {3}
    for cached, uncached in SAME_BITS:
        assert curve_of[cached] == curve_of[uncached]
    assert curve_of["store"] != curve_of["float32"]  # so that the comparison can fail
    assert gaps(curve_of["store"], curve_of["float32"])["largest"][1] < 1e-3


@pytest.mark.parametrize(
    ("absent", "camera_variant"),
    [((), None), ((), 0), ((LIDAR,), 0), (CAMERAS, None), ((CAMERAS[2],), 0)],
)
def test_a_live_batch_has_the_maps_of_the_cached_one(
    store: CachedFeatures,
    records: list[SampleRecord],
    backbones: FrozenBackbones,
    absent: Absent,
    camera_variant: int | None,
) -> None:
    places = [[Place(1, 2, absent, camera_variant), Place(0, 0)]]
    draws = draws_of(store.preset, store.variants)
    detector = live_detector(store, backbones, live(short())).eval()

    (raw,) = live_batches(LivePlaces(records, store.preset, draws), places, workers=0)
    (cached,) = BatchLoader(StoreDataset(store, store.tokens), places, workers=0)
    maps = detector.features(raw)

    assert maps.keys() == cached.maps.keys()
    for name, values in maps.items():
        assert torch.equal(values.half(), cached.maps[name])
    assert raw.tokens == cached.tokens
    assert raw.conditions == cached.conditions
    if camera_variant is None:
        assert torch.equal(raw.img_from_lidar, cached.img_from_lidar)
    # A composed matrix may differ in its last bits.
    torch.testing.assert_close(raw.img_from_lidar, cached.img_from_lidar, rtol=1e-12, atol=1e-9)
    for boxes, expected in zip(raw.boxes_lidar, cached.boxes_lidar, strict=True):
        assert torch.equal(boxes, expected)


def moved(before: dict[str, Tensor], detector: LiveDetector) -> set[str]:
    """Return the backbones of which a parameter or buffer has changed."""
    return {
        name.split(".")[0]
        for name, values in detector.state_dict().items()
        if belongs(name, FROZEN_PARTS) and not torch.equal(values, before[name])
    }


@pytest.mark.parametrize(
    ("make", "image", "point"), [(finetune_low, 0.01, 0.05), (finetune, 1.0, 1.0)]
)
def test_finetuning_trains_the_backbones_except_the_sparse_encoder_on_a_cpu(
    store: CachedFeatures,
    records: list[SampleRecord],
    backbones: FrozenBackbones,
    tmp_path: Path,
    make: object,
    image: float,
    point: float,
) -> None:
    assert callable(make)
    recipe: Recipe = make(short(), with_sparse_encoder=False)
    detector = live_detector(store, backbones, recipe)
    before = {name: values.clone() for name, values in detector.state_dict().items()}

    train_live(detector, store, records, recipe, tmp_path / "run")

    assert moved(before, detector) == {"img_backbone", "pts_backbone"}
    means = [name for name in before if name.startswith("img_") and "running" in name]
    assert all(torch.equal(before[name], detector.state_dict()[name]) for name in means)
    rates = dict(recipe.lr_multipliers)
    assert (rates["img_backbone"], rates["pts_backbone"]) == (image, point)
    assert "pts_middle_encoder" not in rates
    digests = frozen_digests(detector.state_dict(), recipe.frozen)
    result = measured(tmp_path / "run", before=digests, after=digests)
    assert result["frozen_tensors"] > 0
    assert result["seconds_per_step"] > 0


@pytest.mark.parametrize("backbone", ["resnet50", "vovnet99"])
def test_in_train_mode_batch_norm_of_the_image_backbone_stays_in_eval_mode(
    backbone: Literal["resnet50", "vovnet99"],
) -> None:
    camera = tiny().camera
    assert camera is not None
    preset = replace(tiny(), camera=replace(camera, backbone=backbone))
    detector = LiveDetector(FrozenBackbones(preset), build_detector(preset, BACKBONE_CUT, None))

    detector.train()

    modes = {
        (name.split(".")[0], module.training)
        for name, module in detector.named_modules()
        if isinstance(module, _BatchNorm)
    }
    assert {("img_backbone", False), ("pts_backbone", True), ("pts_neck", True)} <= modes
    assert ("img_backbone", True) not in modes


def test_live_frozen_training_changes_no_byte_of_the_backbones(
    store: CachedFeatures, records: list[SampleRecord], backbones: FrozenBackbones, tmp_path: Path
) -> None:
    recipe = live(short())
    detector = live_detector(store, backbones, recipe)
    before = {name: values.clone() for name, values in detector.state_dict().items()}

    train_live(detector, store, records, recipe, tmp_path / "run")

    assert moved(before, detector) == set()
    norms = {
        name: module.training
        for name, module in detector.named_modules()
        if isinstance(module, _BatchNorm)
    }
    assert not any(training for name, training in norms.items() if belongs(name, FROZEN_PARTS))
    assert any(training for name, training in norms.items() if name.startswith("pts_neck"))


def test_a_backbone_buffer_that_moves_stops_live_training_and_is_named(
    store: CachedFeatures,
    records: list[SampleRecord],
    backbones: FrozenBackbones,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest = TrainingStep.take

    def touching(
        self: TrainingStep, batches: MicroBatches, whole: GlobalBatch, step: int
    ) -> QueuedStep:
        backbones.get_buffer("pts_backbone.blocks.0.1.running_mean").add_(1)
        return honest(self, batches, whole, step)

    monkeypatch.setattr(TrainingStep, "take", touching)
    recipe = live(short())

    with pytest.raises(FrozenError, match=r"changed: pts_backbone\.blocks\.0\.1\.running_mean"):
        train_live(
            live_detector(store, backbones, recipe), store, records, recipe, tmp_path / "run"
        )


def test_other_backbones_than_the_stores_are_refused(
    store: CachedFeatures, records: list[SampleRecord], backbones: FrozenBackbones
) -> None:
    require_same_source(store, backbones, records)
    seed_weights(backbones, 1)

    with pytest.raises(IdentityError, match="weights"):
        require_same_source(store, backbones, records)


def test_features_in_memory_are_those_of_the_store_before_rounding(
    store: CachedFeatures, records: list[SampleRecord], backbones: FrozenBackbones
) -> None:
    draws = draws_of(store.preset, store.variants)
    exact = FeaturesInMemory(LiveFeatures(records, backbones, draws))
    maps = {name: np.zeros(blank.shape, blank.dtype) for name, blank in exact.blank_maps.items()}

    frame = exact.read_into(maps, store.tokens[1], 1)

    (cached,) = store.read([store.tokens[1]], 1)
    assert frame.token == cached.frame.token
    for name, values in maps.items():
        assert values.dtype == np.float32
        assert np.array_equal(values.astype(np.float16), cached.maps[name])
        assert not np.array_equal(values, cached.maps[name])
        assert np.array_equal(exact.null.maps[name].astype(np.float16), store.null.maps[name])


def test_features_in_memory_combine_variants_as_a_store_does(
    store: CachedFeatures, records: list[SampleRecord], backbones: FrozenBackbones
) -> None:
    draws = draws_of(store.preset, store.variants)
    exact = FeaturesInMemory(LiveFeatures(records, backbones, draws))
    maps = {name: np.zeros(blank.shape, blank.dtype) for name, blank in exact.blank_maps.items()}

    frame = exact.read_into(maps, store.tokens[1], 0, 1)

    (cached,) = store.read([store.tokens[1]], 0, 1)
    assert np.array_equal(frame.img_from_lidar, cached.frame.img_from_lidar)
    for name, values in maps.items():
        assert np.array_equal(values.astype(np.float16), cached.maps[name])


def test_a_live_detector_detects_in_raw_samples_what_its_head_detects_in_their_features(
    store: CachedFeatures, records: list[SampleRecord], backbones: FrozenBackbones
) -> None:
    head = starting_detector(store, short(), None)
    detector = LiveDetector(backbones, head, rounded=True)
    places = evaluation_places(len(store.tokens), 2)
    cached = evaluation_batches(StoreDataset(store, store.tokens), 2, workers=0)

    raw = live_batches(LivePlaces(records, store.preset, None), places)
    live_results = dict(detect(detector, raw, store))
    results = dict(detect(head, cached, store))

    assert list(live_results) == list(store.tokens)
    assert live_results == results
