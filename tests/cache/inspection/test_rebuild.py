"""`feature-cache diff` says which arrays a difference affects, and which it does not."""

import copy
from pathlib import Path
from typing import Any

import pytest

from cache.__main__ import main
from cache.inspection.rebuild import explain_rebuild, scope_of
from tests.cache.conftest import TOKENS, make_identity, make_writer

ARRAYS = ("camera/stride16", "lidar/stride8", "geometry/img_from_lidar", "geometry/ego_from_lidar")


def changed(path: str, value: Any) -> dict[str, Any]:
    document = copy.deepcopy(make_identity())
    *groups, last = path.split(".")
    at = document
    for group in groups:
        at = at[group]
    at[last] = value
    return document


@pytest.mark.parametrize(
    ("path", "value", "affected", "same"),
    [
        (
            "weights.pts_backbone",
            "b" * 63 + "c",
            "to extract anew: lidar/*",
            "the same in both: camera/*, geometry/*",
        ),
        (
            "weights.img_backbone",
            "a" * 63 + "c",
            "to extract anew: camera/*",
            "the same in both: lidar/*, geometry/*",
        ),
        (
            "preset.camera.width_px",
            96,
            "to extract anew: camera/*, geometry/img_from_lidar",
            "the same in both: lidar/*, geometry/ego_from_lidar",
        ),
        ("precision", "half", "to extract anew: camera/*, lidar/*", "the same in both: geometry/*"),
        ("preset.grid.stride", 4, "to extract anew: lidar/*", "the same in both: camera/*"),
        ("dataset.inputs", "f" * 64, "to extract anew: every array", ""),
        ("dataset.tokens", "f" * 64, "every array, but only samples that one", ""),
        ("variants", 2, "every array, but only the variants that one", ""),
        ("schema_version", 99, "to extract anew: every array", ""),
    ],
)
def test_each_difference_names_what_it_affects(
    path: str, value: Any, affected: str, same: str
) -> None:
    lines = explain_rebuild(make_identity(), changed(path, value), ARRAYS, names=("here", "there"))
    assert lines[0].startswith(f"{path}: ")
    assert affected in lines[1]
    assert same in " ".join(lines[2:])
    assert bool(same) == (len(lines) == 3)


def test_a_cut_affects_only_the_sensor_it_moved_for() -> None:
    mine, theirs = {"cut": "camera=neck,lidar=backbone"}, {"cut": "camera=neck,lidar=memory"}
    assert scope_of("cut", mine, theirs).arrays == ("lidar/*",)


def test_a_field_of_a_later_version_affects_everything() -> None:
    assert str(scope_of("weather", {}, {})) == "every array"


def test_several_references_are_compared_one_by_one(
    finished: Path, begun: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_writer(tmp_path / "fewer", tokens=TOKENS[:2])
    assert main(["diff", str(finished), str(begun), str(tmp_path / "fewer"), "tiny"]) == 1
    printed = capsys.readouterr().out
    assert f"{finished} and {begun}:\nno difference" in printed
    assert f"{finished} and {tmp_path / 'fewer'}:\ndataset.tokens" in printed
    assert f"{finished} and tiny:\npreset.camera" in printed
    assert main(["diff", str(finished), str(begun), str(begun)]) == 0
