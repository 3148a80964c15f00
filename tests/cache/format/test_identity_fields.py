"""Every field of the identity counts: for the store, and where it must, for a model's features."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cache.coordination.null_store import null_identity
from cache.create import StoreSpec, open_or_create
from cache.format.identity import features_digest, identity_document
from cache.format.metadata import Provenance
from cache.writer import StoreWriter
from shared.config.augmentation import Augmentation, VariantDraws
from shared.config.cut import parse_cut
from shared.errors import IdentityError
from tests.cache.conftest import COMMAND, TOKENS, make_identity, make_samples, small_preset
from tests.cache.format.test_identity import contents

# What two stores may differ in, and features of one may still be used with a model of the other.
SHARED_BY_MODELS = {
    *("schema_version", "variants", "variant_seed", "augmentation", "precision", "value_format"),
    *("dataset.version", "dataset.tokens", "dataset.inputs"),
}


def leaves(document: dict[str, Any], path: str = "") -> dict[str, dict[str, Any]]:
    """Return, by dotted name, the dictionary that holds each value."""
    held: dict[str, dict[str, Any]] = {}
    for key, value in document.items():
        nested = isinstance(value, dict)
        held |= leaves(value, f"{path}{key}.") if nested else {f"{path}{key}": document}
    return held


@pytest.mark.parametrize("field", leaves(make_identity()))
def test_a_model_fits_the_features_only_if_every_field_that_determines_them_is_equal(
    field: str,
) -> None:
    changed = copy.deepcopy(make_identity())
    leaves(changed)[field][field.rpartition(".")[2]] = "something else"

    is_equal = features_digest(changed) == features_digest(make_identity())

    assert is_equal == (field in SHARED_BY_MODELS)


@pytest.mark.parametrize(
    "change",
    [
        {"cut": parse_cut("neck")},
        {"precision": "float16 autocast"},
        {"value_format": "uint8 per channel"},
        {"weights": {"img_backbone": "a" * 64}},
        {"dataset_version": "v1.0-trainval"},
        {"tokens": TOKENS[::-1]},
        {"inputs_digest": "d" * 64},
        {"variants": 3},
        {"draws": VariantDraws(augmentation=Augmentation(), seed=1)},
        {"draws": VariantDraws(augmentation=Augmentation(scale=(0.9, 1.2)))},
        {"preset": replace(small_preset(), grid=replace(small_preset().grid, stride=4))},
        {"preset": replace(small_preset(), camera=None)},
        {"preset": replace(small_preset(), lidar=None)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_features_are_made_from_is_in_the_identity(change: dict[str, Any]) -> None:
    made_from: dict[str, Any] = {
        "preset": small_preset(),
        "precision": "float32 compute",
        "value_format": "float16",
        "weights": {"img_backbone": "a" * 64, "pts_backbone": "b" * 64},
        "dataset_version": "v1.0-mini",
        "tokens": TOKENS,
        "inputs_digest": "c" * 64,
        "variants": 2,
        "draws": VariantDraws(augmentation=Augmentation()),
    }
    assert identity_document(**made_from) == identity_document(**made_from)
    assert identity_document(**made_from) != identity_document(**(made_from | change))


def test_more_variants_of_another_seed_are_not_added(tmp_path: Path) -> None:
    def writer(variants: int, seed: int) -> StoreWriter:
        draws = None if variants == 1 else VariantDraws(augmentation=Augmentation(), seed=seed)
        identity = identity_document(
            preset=small_preset(),
            precision="float32 compute",
            value_format="float16",
            weights={},
            dataset_version="v1.0-mini",
            tokens=TOKENS,
            inputs_digest="c" * 64,
            variants=variants,
            draws=draws,
        )
        spec = StoreSpec(
            preset=small_preset(),
            identity=identity,
            samples=make_samples(),
            max_boxes=3,
            provenance=Provenance(command=COMMAND, weights="none", software={}),
        )
        return open_or_create(tmp_path / "store", spec)

    writer(1, seed=0)
    writer(2, seed=0)
    before = contents(tmp_path)
    with pytest.raises(IdentityError, match="variant_seed: 0 in the store, 1 asked for"):
        writer(3, seed=1)
    assert contents(tmp_path) == before
    assert {shard.variant for shard in writer(3, seed=0).shards} == {0, 1, 2}


@pytest.mark.parametrize("field", leaves(make_identity(variants=2)))
def test_null_features_depend_on_all_that_features_do_but_the_samples_and_variants(
    field: str,
) -> None:
    identity = make_identity(variants=2)
    changed = copy.deepcopy(identity)
    leaves(changed)[field][field.rpartition(".")[2]] = "something else"

    is_equal = null_identity(changed) == null_identity(identity)

    of_samples = field.startswith(("dataset.", "variant", "augmentation"))
    assert is_equal == of_samples
