"""Tables are chosen by the samples they hold, and the covered part of a split is reported."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from shared.errors import DatasetError
from stage2_train.evaluation.official_tables import coverage, open_tables, version_of

RESULTS = Path("mine.json")


def write_samples(root: Path, version: str, tokens: str) -> None:
    (root / version).mkdir()
    (root / version / "sample.json").write_text(json.dumps([{"token": token} for token in tokens]))


def test_the_smallest_tables_that_hold_all_samples_are_chosen(tmp_path: Path) -> None:
    write_samples(tmp_path, "v1.0-trainval", "abcdef")
    write_samples(tmp_path, "v1.0-mini", "abc")

    assert version_of(tmp_path, ["c", "a"], RESULTS) == "v1.0-mini"
    assert version_of(tmp_path, ["c", "d"], RESULTS) == "v1.0-trainval"


def test_unknown_samples_are_counted_and_named(tmp_path: Path) -> None:
    write_samples(tmp_path, "v1.0-trainval", "abcdef")
    write_samples(tmp_path, "v1.0-mini", "abc")

    with pytest.raises(
        DatasetError,
        match=r"mine\.json: 1 of 3 samples \(first x\) are not in the v1\.0-trainval tables",
    ):
        version_of(tmp_path, ["a", "x", "f"], RESULTS)


def test_a_root_without_tables_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="has no nuScenes tables"):
        version_of(tmp_path, ["a"], RESULTS)


def test_a_broken_sample_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "v1.0-mini").mkdir()
    (tmp_path / "v1.0-mini" / "sample.json").write_text("[1]")

    with pytest.raises(DatasetError, match=r"sample\.json is no nuScenes sample table"):
        version_of(tmp_path, ["a"], RESULTS)


def test_tables_that_the_devkit_cannot_open_are_named(tmp_path: Path) -> None:
    write_samples(tmp_path, "v1.0-mini", "abc")

    with pytest.raises(DatasetError, match=r"cannot open the v1\.0-mini tables .*category\.json"):
        open_tables(tmp_path, "v1.0-mini")


def test_tables_without_annotations_are_refused(synthetic_root: Path, tmp_path: Path) -> None:
    (tmp_path / "maps").symlink_to(synthetic_root / "maps")
    shutil.copytree(synthetic_root / "v1.0-mini", tmp_path / "v1.0-test")
    (tmp_path / "v1.0-test" / "sample_annotation.json").write_text("[]")

    with pytest.raises(DatasetError, match=r"v1\.0-test tables of .* have no annotations"):
        open_tables(tmp_path, "v1.0-test")


class FakeTables(SimpleNamespace):
    """Two samples of each of these scenes; `blind` samples have no LiDAR keyframe."""

    def __init__(self, version: str, *scenes: str, blind: str = "") -> None:
        super().__init__(version=version, dataroot="root")
        self.sample = [
            {
                "token": f"{scene}{i}",
                "scene_token": scene,
                "data": {} if f"{scene}{i}" == blind else {"LIDAR_TOP": "x"},
            }
            for scene in scenes
            for i in "ab"
        ]

    def get(self, table: str, token: str) -> dict[str, Any]:
        if table == "scene":
            return {"name": token}
        return next(sample for sample in self.sample if sample["token"] == token)


VAL = ("scene-0103", "scene-0916")  # the two of mini_val
VAL_TOKENS = [f"{scene}{i}" for scene in VAL for i in "ab"]


def test_a_whole_split_is_official() -> None:
    covered = coverage(FakeTables("v1.0-mini", *VAL, "scene-0061"), VAL_TOKENS)

    assert (covered.split, covered.is_official) == ("mini_val", True)
    assert covered.statement() == "all 4 samples of mini_val, 2 of its 2 scenes"


def test_a_split_whose_scenes_are_not_all_in_the_tables_is_not_official() -> None:
    covered = coverage(FakeTables("v1.0-mini", VAL[1]), VAL_TOKENS[2:])

    assert (covered.split, covered.is_official) == ("mini_val", False)
    assert "only 1 of its 2 scenes: the numbers are not comparable" in covered.statement()


def test_part_of_a_split_is_reported_as_a_part() -> None:
    tables = FakeTables("v1.0-mini", *VAL, "scene-0061")
    covered = coverage(tables, [VAL_TOKENS[3], "scene-0061a"])

    assert covered.split is None
    assert covered.statement().startswith("2 samples (1 of 2 of mini_train, 1 of 4 of mini_val)")


def test_all_but_one_sample_are_no_split() -> None:
    covered = coverage(FakeTables("v1.0-mini", *VAL), VAL_TOKENS[1:])

    assert (covered.split, covered.parts) == (None, {"mini_val": (3, 4)})


def test_the_same_scenes_are_no_mini_split_in_other_tables() -> None:
    covered = coverage(FakeTables("v1.0-trainval", *VAL), VAL_TOKENS)

    assert (covered.split, covered.is_official) == ("val", False)


def test_tables_of_another_name_have_no_official_split() -> None:
    covered = coverage(FakeTables("v1.0-mine", *VAL), VAL_TOKENS)

    assert covered.split is None
    assert covered.statement().startswith("4 samples: not a whole official split")


def test_partial_tables_without_the_keyframe_are_refused() -> None:
    tables = FakeTables("v1.0-mini", *VAL, blind=VAL_TOKENS[1])

    assert coverage(tables, VAL_TOKENS[2:]).samples == 2
    with pytest.raises(DatasetError, match=rf"1 of 4 samples \(first {VAL_TOKENS[1]}\) have no LI"):
        coverage(tables, VAL_TOKENS)
