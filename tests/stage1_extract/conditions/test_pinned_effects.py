"""What a condition of ours does is pinned with its revision, so that deltas stay what they say."""

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stage1_extract.conditions.camera.exposure import brighten
from stage1_extract.conditions.catalogue.condition_catalogue import CATALOGUE, load_condition
from stage1_extract.conditions.condition import Condition, Pixels, Points
from stage1_extract.conditions.draw import Draw
from tests.stage1_extract.conditions import pinned_effects
from tests.stage1_extract.conditions.pinned_effects import COMMAND, effect_of, fault, read_table

NAMES = list(CATALOGUE)


@pytest.mark.parametrize("name", NAMES)
def test_a_condition_does_what_is_pinned_for_its_revision(name: str) -> None:
    condition, table = load_condition(name), read_table()
    assert not fault(condition, table)
    pinned = table.get(name, {}).get("revision")
    assert condition.revision == pinned, f"revision {pinned} of {name} is pinned; run {COMMAND}"


def test_the_table_has_no_conditions_but_ours() -> None:
    assert list(read_table()) == NAMES, f"conditions were renamed, moved or removed; run {COMMAND}"


def test_the_scene_shows_every_function_of_every_condition() -> None:
    table = read_table()
    for name in NAMES:
        condition, effect = load_condition(name), table[name]["effect"]
        shown = {
            "lidar_file": condition.lidar_file is not None,
            "merged_points": condition.merged_points is not None or name == "lidar-drop",
            "poses": condition.camera_poses is not None,
        }
        assert {kind for kind, is_shown in shown.items() if is_shown} == {*effect} & {*shown}, name
        assert not condition.changes_images or "images" in effect, name
    assert len({json.dumps(entry["effect"]) for entry in table.values()}) == len(NAMES)


def without_a_point(function: Any, points: Points, *rest: Any) -> Points:
    changed: Points = function(points, *rest)
    return changed[1:]


def moved_by(step_m: float, function: Any, points: Points, draw: Draw) -> Points:
    changed: Points = function(points, draw)
    return changed + np.float32([0, step_m, 0, 0, 0])


def a_step_off(function: Any, points: Points, draw: Draw) -> Points:
    """Return points of which each hundredth coordinate is the next larger float32."""
    changed: Points = function(points, draw)
    is_off = np.random.default_rng(3).random(changed.shape) < 0.01
    return np.where(is_off, np.nextafter(changed, np.float32(np.inf)), changed)


def drawn_otherwise(function: Any, pixels: Pixels, draw: Draw) -> Pixels:
    draw.uniform(1)
    changed: Pixels = function(pixels, draw)
    return changed


def off_by(step: int, share: float, pixels: Pixels, draw: Draw) -> Pixels:
    """Return what brightness-2 makes, some levels off."""
    bright = brighten(pixels, 6)
    is_off = np.random.default_rng(3).random(pixels.shape) < share
    return np.where(is_off & (bright < 200), bright + step, bright).astype(np.uint8)


CHANGED: Mapping[str, Condition] = {
    "a point is gone of a file": replace(
        load_condition("beams-4-even"),
        lidar_file=partial(without_a_point, load_condition("beams-4-even").lidar_file),
    ),
    "a point is gone of those merged": replace(
        load_condition("fov-60"),
        merged_points=partial(without_a_point, load_condition("fov-60").merged_points),
    ),
    "points are a millimetre off": replace(
        load_condition("fog-2"),
        lidar_file=partial(moved_by, 1e-3, load_condition("fog-2").lidar_file),
    ),
    "noise is drawn otherwise": replace(
        load_condition("dark-1"), image=partial(drawn_otherwise, load_condition("dark-1").image)
    ),
    "levels are rounded otherwise": replace(
        load_condition("brightness-2"), image=partial(off_by, 1, 0.5)
    ),
    "a sample is touched that was not": replace(load_condition("objects-object-30"), edits=None),
    "a camera is missing more often": replace(
        load_condition("cameras-20"), parameters={"probability": 0.25}
    ),
    "angles are smaller": replace(load_condition("extrinsics-all"), seed=1),
}


@pytest.mark.parametrize("change", CHANGED)
def test_a_change_without_a_higher_revision_is_told_with_what_to_do(change: str) -> None:
    condition, table = CHANGED[change], read_table()

    said = fault(condition, table)

    assert said.startswith(f"{condition.name} does something else than revision 1 did (")
    assert said.endswith(f"give its Condition revision=2 and run {COMMAND}")
    assert not fault(replace(condition, revision=2), table)


def test_what_other_machines_round_otherwise_is_no_change() -> None:
    table = read_table()
    fog = load_condition("fog-2")
    stepped = replace(fog, lidar_file=partial(a_step_off, fog.lidar_file))
    assert effect_of(stepped) != table["fog-2"]["effect"]
    assert not fault(stepped, table)
    rounded = replace(load_condition("brightness-2"), image=partial(off_by, 1, 0.01))
    assert effect_of(rounded) != table["brightness-2"]["effect"]
    assert not fault(rounded, table)


def test_the_command_writes_a_raised_revision_and_refuses_a_change_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "pinned.json"
    file.write_bytes(pinned_effects.TABLE.read_bytes())
    changed = CHANGED["levels are rounded otherwise"]
    makers = {
        "fov-60": CATALOGUE["fov-60"],
        "brightness-2": lambda: changed,
    }
    monkeypatch.setattr(pinned_effects, "TABLE", file)
    monkeypatch.setattr(pinned_effects, "CATALOGUE", makers)
    monkeypatch.setattr(pinned_effects, "load_condition", lambda name: makers[name]())

    assert pinned_effects.main() == 1
    assert "give its Condition revision=2" in capsys.readouterr().err
    assert file.read_bytes() == Path(__file__).with_name("pinned_effects.json").read_bytes()
    makers["brightness-2"] = lambda: replace(changed, revision=2)
    assert pinned_effects.main() == 0
    table = json.loads(file.read_text())
    assert {name: entry["revision"] for name, entry in table.items()} == {
        "fov-60": 1,
        "brightness-2": 2,
    }
    assert not fault(makers["brightness-2"](), table)
    makers["brightness-2"] = lambda: changed
    assert pinned_effects.main() == 1
    assert "has had revision 2; do not give its Condition a lower one" in capsys.readouterr().err
