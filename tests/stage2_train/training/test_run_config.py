"""A run does what its recipe says, and goes on only as what it was started as."""

from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cache.reader import CachedFeatures
from shared.config.aqr_config import AqrConfig
from shared.config.preset_catalogue import tiny
from shared.data.sensor_drop import SensorDrop
from shared.errors import ConfigError
from shared.model.detector import CmtDetector
from shared.model.initial_detector import fresh_detector
from stage2_train.recipes.recipe import Recipe
from stage2_train.training import assembly
from stage2_train.training.build import train, training_order
from tests.stage2_train.training.test_training import recipe

# Another value of every field of a recipe; a new field has to be added here.
CHANGES: dict[str, dict[str, Any]] = {
    "name": {"name": "other"},
    "aqr": {"aqr": AqrConfig()},
    "sensor_drop": {"sensor_drop": SensorDrop()},
    "conditions": {"conditions": (("beams-4-even", 0.5),)},
    "variants_per_sensor": {"variants_per_sensor": False},
    "class_balanced": {"class_balanced": True},
    "frozen": {"frozen": ("img_neck",)},
    "steps": {"steps": 7},
    "epochs": {"steps": None, "epochs": 1},
    "batch_size": {"batch_size": 1},
    "accumulate": {"accumulate": 2},
    "learning_rate": {"learning_rate": 2e-3},
    "weight_decay": {"weight_decay": 0.1},
    "lr_multipliers": {"lr_multipliers": (("img_neck", 0.1),)},
    "clip_norm": {"clip_norm": 1.0},
    "schedule": {"schedule": "cosine"},
    "peak_ratio": {"peak_ratio": 5.0},
    "final_ratio": {"final_ratio": 1e-3},
    "rising_share": {"rising_share": 0.3},
    "warmup_steps": {"warmup_steps": 5},
    "ema_decay": {"ema_decay": 0.9},
    "seed": {"seed": 1},
    "precision": {"precision": "bf16-mixed"},
    "tf32": {"tf32": True},
    "checkpoint_every": {"checkpoint_every": 3},
    "keep_last": {"keep_last": 1},
    "validate_steps": {"validate_steps": 2},
    "validate_epochs": {"validate_epochs": 1},
    "validation_samples": {"validation_samples": None},
    "best_by": {"best_by": "loss"},
    "patience": {"patience": 3},
}


@pytest.fixture(scope="module")
def detector() -> CmtDetector:
    return fresh_detector(tiny(), seed=0)


def test_every_field_of_a_recipe_is_changed_below() -> None:
    assert CHANGES.keys() == {field.name for field in fields(Recipe)}


@pytest.mark.parametrize("field", CHANGES)
def test_a_run_is_recorded_with_every_field_of_its_recipe(
    detector: CmtDetector, field: str
) -> None:
    before = assembly._config(detector, recipe(), "samples", None)
    after = assembly._config(detector, replace(recipe(), **CHANGES[field]), "samples", None)
    assert after["recipe"][field] != before["recipe"][field]


def test_a_run_is_recorded_with_its_samples_preset_and_starting_weights(
    detector: CmtDetector,
) -> None:
    before = assembly._config(detector, recipe(), "samples", None)
    head = replace(tiny().head, class_weight=1.0)
    others = {
        "store": assembly._config(detector, recipe(), "other samples", None),
        "starting weights": assembly._config(
            fresh_detector(tiny(), seed=1), recipe(), "samples", None
        ),
        "preset": assembly._config(
            fresh_detector(replace(tiny(), head=head), seed=0), recipe(), "samples", None
        ),
    }
    for key, after in others.items():
        assert {name for name in before if before[name] != after[name]} == {key}


def test_a_run_is_not_resumed_on_another_store(
    tiny_store: Path, tiny_store_8bit: Path, tmp_path: Path
) -> None:
    train(CachedFeatures(tiny_store), recipe(), tmp_path / "run", stop_after=1)
    before = (tmp_path / "run" / "checkpoint.pt").read_bytes()

    with pytest.raises(ConfigError, match="holds a run with a different store"):
        train(CachedFeatures(tiny_store_8bit), recipe(), tmp_path / "run")

    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == before


def of_samples(*, variants: int) -> Any:
    """A store of a hundred samples with a car, and one with a car and a bus."""
    labels = {f"t{i}": np.array([0, 3] if i == 7 else [0]) for i in range(100)}
    return SimpleNamespace(
        tokens=tuple(labels), variants=variants, labels=labels.__getitem__, preset=tiny()
    )


def test_places_are_drawn_as_the_recipe_says() -> None:
    own = recipe(batch_size=4, seed=3)
    plain = training_order(of_samples(variants=1), own).epoch(0)
    assert sorted(place.sample for place in plain) == list(range(100))
    assert {(place.variant, place.absent) for place in plain} == {(0, ())}

    of_variants = training_order(of_samples(variants=3), own).epoch(0)
    assert {place.variant for place in of_variants} == {0, 1, 2}
    assert len({(place.variant, place.camera_variant) for place in of_variants}) == 9
    together = replace(own, variants_per_sensor=False)
    of_both = training_order(of_samples(variants=3), together).epoch(0)
    assert of_both == [place._replace(camera_variant=None) for place in of_variants]
    dropped = training_order(of_samples(variants=1), replace(own, sensor_drop=SensorDrop())).epoch(
        0
    )
    assert len({place.absent for place in dropped}) == 3
    balanced = training_order(of_samples(variants=1), replace(own, class_balanced=True)).epoch(0)
    # Upstream: each of the ten classes is drawn a tenth of 101 times, as far as it occurs.
    assert sum(place.sample == 7 for place in balanced) >= 10
    others = training_order(of_samples(variants=1), replace(own, seed=4)).epoch(0)
    assert others != plain
    assert len(next(iter(training_order(of_samples(variants=1), own)))) == 4
