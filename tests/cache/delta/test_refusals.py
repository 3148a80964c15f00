"""Deltas that would give wrong features are refused by name."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cache.coordination.store import open_store
from cache.delta.delta_metadata import DeltaMetadata, open_or_create_delta
from cache.delta.delta_rows import row_frame
from cache.delta.open_features import open_delta
from cache.format.checked_json import CHECKSUM
from cache.reader import CachedFeatures
from cache.storage.location import as_store_path
from shared.config.classes import CAMERAS, LIDAR
from shared.digests import json_digest
from shared.errors import CacheError, IdentityError
from tests.cache.conftest import fill, make_writer
from tests.cache.delta import small_deltas
from tests.cache.delta.conftest import write_base
from tests.cache.delta.small_deltas import (
    delta_metadata,
    plan_of,
    rebuild_base,
    write_small_delta,
)

LETTERS = {CAMERAS[0]: "rr...", LIDAR: "r...."}


@pytest.fixture
def delta(base: CachedFeatures, tmp_path: Path) -> Path:
    write_small_delta(tmp_path / "delta", base, plan_of(base, LETTERS))
    return tmp_path / "delta"


def edited(delta: Path, **fields: object) -> None:
    """Change fields of a delta's document, and its checksum."""
    file = delta / "delta.json"
    document = {k: v for k, v in json.loads(file.read_text()).items() if k != CHECKSUM}
    document |= fields
    file.write_text(json.dumps({**document, CHECKSUM: json_digest(document)}))


def test_a_delta_that_equals_the_clean_store(
    base: CachedFeatures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def clean_rows(arrays: object, token: str, variant: int) -> dict[str, np.ndarray]:
        name, _, camera = token.partition("/")
        (sample,) = base.read([name], variant)
        wanted = {k: np.asarray(v, np.float32) for k, v in sample.maps.items()}
        if camera:
            return {k: v[CAMERAS.index(camera)] for k, v in wanted.items() if "camera" in k}
        return {k: v for k, v in wanted.items() if "lidar" in k}

    monkeypatch.setattr(small_deltas, "row_maps", clean_rows)
    write_small_delta(tmp_path / "same", base, plan_of(base, LETTERS))
    with pytest.raises(CacheError, match=r"equals the clean store .*shaken-2 changed no value"):
        open_delta(tmp_path / "same", base)
    write_small_delta(tmp_path / "meant", base, plan_of(base, LETTERS), may_change_nothing=True)
    assert open_delta(tmp_path / "meant", base).condition.name == "shaken-2"


def test_geometry_that_equals_the_clean_store(
    base: CachedFeatures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_small_delta(tmp_path / "moved", base, plan_of(base, {}, has_geometry=True))
    open_delta(tmp_path / "moved", base)
    frame = row_frame

    def unmoved(*args: object) -> object:
        made = frame(*args)  # type: ignore[arg-type]
        made.img_from_lidar[...] /= 2
        return made

    monkeypatch.setattr(small_deltas, "row_frame", unmoved)
    write_small_delta(tmp_path / "same", base, plan_of(base, {}, has_geometry=True))
    moved = open_store(tmp_path / "same" / "geometry")
    assert moved.layout.samples == 5
    with pytest.raises(CacheError, match="equals the clean store"):
        open_delta(tmp_path / "same", base)


def test_a_plan_that_touches_nothing(base: CachedFeatures, tmp_path: Path) -> None:
    untouched = delta_metadata(base, plan_of(base, {LIDAR: "....."}))
    with pytest.raises(CacheError, match="touches no sensor of any of the 5 samples"):
        open_or_create_delta(as_store_path(tmp_path / "delta"), untouched)
    assert not (tmp_path / "delta").exists()


def test_a_delta_of_a_different_base(delta: Path, tmp_path: Path) -> None:
    fill(make_writer(tmp_path / "different.zarr", codec="uint8-zstd-1"))
    with pytest.raises(IdentityError, match=r"delta of a different store(.|\n)*value_format"):
        open_delta(delta, CachedFeatures(tmp_path / "different.zarr"))


def test_a_base_that_was_rebuilt_since(delta: Path, base: CachedFeatures, tmp_path: Path) -> None:
    copy = shutil.copytree(tmp_path / "base.zarr", tmp_path / "copy.zarr")
    open_delta(delta, CachedFeatures(copy))  # a copy of the base is the base
    rebuild_base(copy, base, 0.0)
    open_delta(delta, CachedFeatures(copy))  # so is one that was written again with equal values
    rebuild_base(copy, base, 0.25)
    with pytest.raises(IdentityError, match=r"was rebuilt since the delta"):
        open_delta(delta, CachedFeatures(copy))


def test_a_base_that_lost_rows(delta: Path, base: CachedFeatures, tmp_path: Path) -> None:
    (tmp_path / "base.zarr/ledger/000001.json").unlink()
    with pytest.raises(IdentityError, match="or is not complete"):
        open_delta(delta, CachedFeatures(tmp_path / "base.zarr"))


@pytest.mark.parametrize("part", ["camera", "lidar"])
def test_a_missing_row(delta: Path, base: CachedFeatures, part: str) -> None:
    (delta / part / "ledger/000000.json").unlink()
    with pytest.raises(CacheError, match=rf"is not finished: .*{part} are missing\. Finish"):
        open_delta(delta, base)


def test_missing_rows_of_a_store_that_was_never_created(delta: Path, base: CachedFeatures) -> None:
    shutil.rmtree(delta / "lidar")
    with pytest.raises(CacheError, match="its lidar rows are missing"):
        open_delta(delta, base)


def test_a_row_that_is_missing_when_it_is_read(delta: Path, base: CachedFeatures) -> None:
    conditioned = open_delta(delta, base)
    (delta / "lidar/ledger/000000.json").unlink()
    with pytest.raises(CacheError, match="is not finished"):
        conditioned.require_complete()


def test_a_view_order_of_different_software(delta: Path, base: CachedFeatures) -> None:
    edited(delta, cameras=list(CAMERAS[::-1]))
    with pytest.raises(CacheError, match="view order CAM_BACK_RIGHT, CAM_BACK_LEFT"):
        open_delta(delta, base)


def test_a_base_with_more_variants(delta: Path, tmp_path: Path) -> None:
    wider = write_base(tmp_path / "wider.zarr", variants=2)
    with pytest.raises(IdentityError, match=r"has 1 variants per sample, and .* has 2"):
        open_delta(delta, wider)


def test_a_delta_where_a_store_is_expected(delta: Path) -> None:
    with pytest.raises(CacheError, match="is a delta store: it holds only what a condition"):
        CachedFeatures(delta)


def test_a_store_inside_a_delta_where_a_store_is_expected(delta: Path) -> None:
    with pytest.raises(CacheError, match=r"is inside a delta store and has only its camera rows"):
        CachedFeatures(delta / "camera")


def test_a_store_where_a_delta_is_expected(base: CachedFeatures, tmp_path: Path) -> None:
    with pytest.raises(CacheError, match=r"is not a delta store .* but a feature store"):
        open_delta(tmp_path / "base.zarr", base)
    metadata = delta_metadata(base, plan_of(base, LETTERS))
    with pytest.raises(CacheError, match="is a feature store, not a delta store"):
        open_or_create_delta(as_store_path(tmp_path / "base.zarr"), metadata)


def test_a_damaged_document(delta: Path, base: CachedFeatures) -> None:
    file = delta / "delta.json"
    file.write_text(file.read_text().replace("shaken", "stirred"))
    with pytest.raises(CacheError, match="damaged"):
        open_delta(delta, base)
    file.write_text("{")
    with pytest.raises(CacheError, match="damaged"):
        open_delta(delta, base)


def test_resuming_a_different_condition(delta: Path, base: CachedFeatures) -> None:
    asked: DeltaMetadata = delta_metadata(
        base,
        plan_of(base, LETTERS),
        condition_identity={"name": "shaken-2", "family": "shaken", "parameters": {"share": 0.7}},
    )
    with pytest.raises(IdentityError, match=r"parameters\.share: 0\.5 in the store, 0\.7"):
        open_or_create_delta(as_store_path(delta), asked)


def test_damage_inside_names_the_row_and_how_to_rebuild_it(
    delta: Path, base: CachedFeatures
) -> None:
    conditioned = open_delta(delta, base)
    (file,) = (delta / "lidar/lidar/stride8").glob("c.*")
    content = bytearray(file.read_bytes())
    content[10] ^= 1
    file.write_bytes(content)
    with pytest.raises(CacheError, match=r"lidar/stride8 of sample ant.* is damaged"):
        conditioned.read(["ant"])
