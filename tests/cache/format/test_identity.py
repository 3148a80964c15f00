"""A store is only reused for what it was made from."""

import copy
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import cache.create
from cache.coordination.store import open_store
from cache.create import StoreSpec, open_or_create
from cache.format.identity import (
    explain_difference,
    identity_document,
    require_identity,
)
from cache.format.metadata import Provenance
from cache.format.samples import Samples
from cache.reader import CachedFeatures
from shared.errors import CacheError, IdentityError
from tests.cache.conftest import (
    COMMAND,
    TOKENS,
    fill,
    make_identity,
    make_samples,
    make_writer,
    small_preset,
)

CHANGES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "schema_version": (lambda i: i.update(schema_version=99), "store's format"),
    "cut": (lambda i: i.update(cut="neck"), "where the frozen part ends"),
    "variants": (lambda i: i.update(variants=2), "the recorded one included"),
    "variant_seed": (lambda i: i.update(variant_seed=1), "seed"),
    "preset.camera.width_px": (lambda i: i["preset"]["camera"].update(width_px=96), "image branch"),
    "preset.grid.voxel_m": (
        lambda i: i["preset"]["grid"].update(voxel_m=[1.0, 1.0, 0.25]),
        "voxels and BEV cells",
    ),
    "precision": (lambda i: i.update(precision="float16 autocast"), "device"),
    "value_format": (
        lambda i: i.update(value_format="uint8 per channel"),
        "number format of the maps",
    ),
    "weights.img_backbone": (
        lambda i: i["weights"].update(img_backbone="a" * 63 + "b"),
        "checkpoint or seed",
    ),
    "weights.extra": (lambda i: i["weights"].update(extra="d" * 64), "checkpoint or seed"),
    "dataset.version": (lambda i: i["dataset"].update(version="v1.0-trainval"), "nuScenes version"),
    "dataset.tokens": (lambda i: i["dataset"].update(tokens="e" * 64), "list of samples"),
    "dataset.inputs": (lambda i: i["dataset"].update(inputs="f" * 64), "annotations"),
}


def contents(path: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.mark.parametrize("field", CHANGES)
def test_each_field_that_differs_is_named_and_explained(finished: Path, field: str) -> None:
    change, meaning = CHANGES[field]
    wanted = copy.deepcopy(make_identity())
    change(wanted)
    before = contents(finished)

    with pytest.raises(IdentityError) as refusal:
        require_identity(finished, CachedFeatures(finished).identity, wanted)

    lines = str(refusal.value).splitlines()
    assert len(lines) == 3  # what, the field, the remedy
    assert field in lines[1]
    assert "in the store" in lines[1]
    assert meaning in lines[1]
    assert "different --store" in lines[2]
    assert contents(finished) == before


def test_digests_are_shown_by_their_beginning_unless_it_is_equal() -> None:
    (line,) = explain_difference({"weights": {"a": "1" * 64}}, {"weights": {"a": "2" * 64}})
    assert "111111111111..." in line
    assert "1" * 13 not in line
    (line,) = explain_difference({"a": "1" * 64}, {"a": "1" * 63 + "2"})
    assert "1" * 63 + "2" in line


def test_a_section_that_only_one_identity_has_is_one_difference() -> None:
    augmentation = {"scale": [0.9, 1.1], "shuffle_points": True}
    mine, theirs = {"augmentation": augmentation}, {"augmentation": None}
    (line,) = explain_difference(mine, theirs)
    assert line.startswith("augmentation: 2 fields in the store, null asked for (")
    (line,) = explain_difference({}, mine)
    assert line.startswith("augmentation: absent in the store, 2 fields asked for (")


def test_equal_identities_have_no_difference(finished: Path) -> None:
    require_identity(finished, CachedFeatures(finished).identity, make_identity())
    assert explain_difference(make_identity(), make_identity()) == []


def test_name_and_head_of_a_preset_are_not_part_of_the_identity() -> None:
    head = replace(small_preset().head, queries=7)
    renamed = replace(small_preset(), name="renamed", head=head)
    document = identity_document(
        preset=renamed,
        precision="float32 compute",
        value_format="float16",
        weights={"pts_backbone": "b" * 64, "img_backbone": "a" * 64},
        dataset_version="v1.0-mini",
        tokens=TOKENS,
        inputs_digest="c" * 64,
    )
    assert document == make_identity()


def test_the_order_of_samples_is_part_of_the_identity() -> None:
    difference = explain_difference(make_identity(), make_identity(tokens=TOKENS[::-1]))
    assert [line.partition(":")[0] for line in difference] == ["dataset.tokens"]


def test_two_splits_of_one_extraction_share_the_digest_of_their_features(
    finished: Path, tmp_path: Path
) -> None:
    make_writer(tmp_path / "val", tokens=TOKENS[:2])
    train, val = CachedFeatures(finished), CachedFeatures(tmp_path / "val")
    assert train.features_digest == val.features_digest
    assert train.identity_digest != val.identity_digest


def test_opening_a_store_with_a_different_identity_changes_nothing(finished: Path) -> None:
    before = contents(finished)
    with pytest.raises(IdentityError, match=r"dataset\.tokens"):
        make_writer(finished, tokens=TOKENS[:3])
    assert contents(finished) == before


def test_anything_else_at_the_path_is_refused_and_kept(tmp_path: Path) -> None:
    directory, file = tmp_path / "directory", tmp_path / "file"
    directory.mkdir()
    (directory / "thesis.txt").write_text("years of work")
    file.write_text("more of it")
    before = contents(tmp_path)
    with pytest.raises(CacheError, match="not empty and not a feature store"):
        make_writer(directory)
    with pytest.raises(CacheError, match="is a file, not a feature store"):
        make_writer(file)
    assert contents(tmp_path) == before


def test_an_empty_directory_and_missing_parents_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "new/deeper/store"):
        writer = make_writer(path)
        assert (path / "zarr.json").is_file()
        assert writer.pending()


def test_a_kill_during_creation_leaves_no_store_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "store"
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)  # as after kill -9
        patch.setattr(cache.create, "to_attributes", lambda _: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            make_writer(path)
    assert not path.exists()
    fill(make_writer(path))
    assert not make_writer(path).pending()


def test_a_store_created_meanwhile_by_another_worker_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "store"
    real = cache.create._build

    def slow(building: Path, *rest: Any) -> None:
        real(building, *rest)
        monkeypatch.setattr(cache.create, "_build", real)
        fill(make_writer(path), shards=1)

    monkeypatch.setattr(cache.create, "_build", slow)
    assert len(make_writer(path).pending()) == 2
    assert [file.name for file in tmp_path.iterdir()] == ["store"]


def test_different_software_versions_are_a_warning(
    finished: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        spec = StoreSpec(
            preset=small_preset(),
            identity=make_identity(),
            samples=make_samples(),
            max_boxes=3,
            provenance=Provenance(command=COMMAND, weights="none", software={"torch": "3.0"}),
        )
        open_or_create(finished, spec)
    assert "torch 2.13.0 -> 3.0" in caplog.text


def test_a_sample_list_that_cannot_be_stored_is_refused() -> None:
    with pytest.raises(CacheError, match="no samples"):
        Samples(tokens=(), scenes=(), timestamps_us=())
    with pytest.raises(CacheError, match="sample a is listed twice"):
        Samples(tokens=("a", "b", "a"), scenes=("s",) * 3, timestamps_us=(1, 2, 3))
    with pytest.raises(CacheError, match="2 tokens, 1 scenes"):
        Samples(tokens=("a", "b"), scenes=("s",), timestamps_us=(1, 2))
    for odd in ("caf\u00e9", "", "a\0b"):
        with pytest.raises(CacheError, match="cannot be a token"):
            Samples(tokens=(odd,), scenes=("s",), timestamps_us=(1,))
        with pytest.raises(CacheError, match="cannot be a token"):
            Samples(tokens=("a",), scenes=(odd,), timestamps_us=(1,))


def test_a_store_can_be_inspected_whose_preset_this_version_does_not_know(finished: Path) -> None:
    import json

    from cache.inspection.summary import describe
    from shared.digests import json_digest

    file = finished / "zarr.json"
    node = json.loads(file.read_text())
    ours = node["attributes"]["frozen_cmt"]
    ours["preset_document"]["head"]["a_later_field"] = 1
    del ours["checksum"]
    ours["checksum"] = json_digest(ours)
    file.write_text(json.dumps(node))
    assert describe(open_store(finished))["preset"] == "small"
