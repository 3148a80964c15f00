"""Every condition of ours: listed, documented, applied to whole frames, the same in any order."""

import re
import subprocess
import sys
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest

from shared.config.preset import CameraBranch
from shared.config.preset_catalogue import r50_800x320, tiny
from shared.digests import array_digest, file_digest
from shared.errors import ConfigError
from stage1_extract.conditions.apply_condition import changed_poses, changes_of
from stage1_extract.conditions.catalogue.condition_catalogue import CATALOGUE, load_condition
from stage1_extract.conditions.condition import Condition
from stage1_extract.conditions.stuck_sensors import stuck_record
from stage1_extract.nuscenes.nuscenes_tables import read_tables
from stage1_extract.nuscenes.records import SampleRecord
from stage1_extract.preprocessing.images import load_images
from stage1_extract.preprocessing.sweeps import load_points
from tests.stage1_extract.conditions.frames import cloud, real_records, record

NAMES = list(CATALOGUE)
PAGE = Path(__file__).parents[3] / "docs" / "conditions.md"
MINE = """
from stage1_extract.conditions.condition import Condition

def dusk():
    def darker(image, draw):
        return image // 2

    return Condition(name="dusk", family="dusk", source="ours", image=darker)

def nothing():
    return None

dawn = 3
"""


def loaded(
    condition: Condition, frame: SampleRecord, frames: list[SampleRecord], camera: CameraBranch
) -> list[np.ndarray]:
    """Return points, images and projections of a frame, as a loader process makes them."""
    changes = changes_of(condition, frames)[[own.token for own in frames].index(frame.token)]
    record = stuck_record(frame, changes.edits, {own.token: own for own in frames})
    record = changed_poses(condition, record)
    points = load_points(record, 10, changes=changes)
    return [points, *load_images(record, camera, changes=changes)]


@cache
def clean(frame: SampleRecord, camera: CameraBranch) -> list[np.ndarray]:
    return [load_points(frame, 10), *load_images(frame, camera)]


def expanded(pattern: str) -> list[str]:
    """Return "a-1", "a-2" for "a-{1,2}"."""
    before, opening, rest = pattern.partition("{")
    if not opening:
        return [pattern]
    choices, _, after = rest.partition("}")
    return [before + choice + after for choice in choices.split(",")]


def test_the_page_has_a_row_for_every_condition_and_no_others() -> None:
    _, _, text = PAGE.read_text("utf-8").partition("## The conditions\n")
    table = text.partition("\n## ")[0]
    rows = re.findall(r"^\| `([a-z0-9{},-]+)` \|", table, re.MULTILINE)
    documented = [name for row in rows for name in expanded(row)]
    assert len(documented) == len(set(documented))
    assert set(documented) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_condition_says_where_it_comes_from_and_what_it_does(name: str) -> None:
    condition = load_condition(name)
    assert condition.name == name
    assert len(condition.source) > 10
    maker = CATALOGUE[name]
    function = maker.func if isinstance(maker, partial) else maker
    assert function.__doc__
    assert condition.user_file is None
    assert not condition.may_change_nothing


def test_names_and_identities_are_all_different_and_severities_of_a_family_too() -> None:
    conditions = [load_condition(name) for name in NAMES]
    assert len({str(condition.identity) for condition in conditions}) == len(NAMES)
    graded = [(c.family, c.severity) for c in conditions if c.severity is not None]
    assert len(set(graded)) == len(graded)


def check_a_frame(
    name: str, frames: list[SampleRecord], camera: CameraBranch
) -> tuple[bool, bool, bool]:
    """Load frames under a condition until all that is touched has changed in one of them.

    Returns:
        Whether points, images, projections changed.
    """
    condition = load_condition(name)
    edited, changed = touched(condition, frames), np.zeros(3, bool)
    first = NAMES.index(name) % len(frames)
    for frame in (*frames[first:], *frames[:first]):
        before, after = clean(frame, camera), loaded(condition, frame, frames, camera)
        assert [array.dtype for array in after] == [array.dtype for array in before]
        assert [array.shape for array in after[1:]] == [array.shape for array in before[1:]]
        assert all(np.isfinite(array).all() for array in after)
        assert len(after[0]) <= len(before[0]) or name.startswith("lidar-stuck")
        changed |= [a.tobytes() != b.tobytes() for a, b in zip(after, before, strict=True)]
        if tuple(changed) == edited:
            break
    return bool(changed[0]), bool(changed[1]), bool(changed[2])


def touched(condition: Condition, frames: list[SampleRecord]) -> tuple[bool, bool, bool]:
    edits = [changes.edits for changes in changes_of(condition, frames)]
    lidar = any(edit.lidar is not None for edit in edits)
    return lidar, any(edit.cameras for edit in edits), condition.camera_poses is not None


@pytest.fixture(scope="module")
def synthetic_frames(synthetic_root: Path) -> list[SampleRecord]:
    return read_tables(synthetic_root, "v1.0-mini", "mini_train")


@pytest.fixture(scope="module")
def real_frames(nuscenes_real: Path) -> list[SampleRecord]:
    return real_records(nuscenes_real)[2:]


@pytest.mark.parametrize("name", NAMES)
def test_a_synthetic_frame_is_changed_in_the_sensors_that_are_touched_and_no_others(
    name: str, synthetic_frames: list[SampleRecord]
) -> None:
    camera, frames = tiny().camera, synthetic_frames
    assert camera is not None
    changed, edited = check_a_frame(name, frames, camera), touched(load_condition(name), frames)
    # A file or an object that is drawn may hold nothing that changes; never the other way round.
    assert all(own <= may for own, may in zip(changed, edited, strict=True))
    if not name.startswith(("objects", "lidar-shift")):
        assert changed == edited


@pytest.mark.real
@pytest.mark.parametrize("name", NAMES)
def test_real_frames_are_changed_in_the_sensors_that_are_touched_and_no_others(
    name: str, real_frames: list[SampleRecord]
) -> None:
    camera = r50_800x320().camera
    assert camera is not None
    edited = touched(load_condition(name), real_frames)
    assert check_a_frame(name, real_frames, camera) == edited


DIGEST = """
import sys
from pathlib import Path
from tests.stage1_extract.conditions.test_catalogue import digests
print(*digests(Path(sys.argv[1]), after=1))
"""


def digests(root: Path, *, after: int = 0) -> list[str]:
    """Return digests of what a loader makes of a frame under a condition of each family.

    Args:
        root: of the frames.
        after: frames that are loaded before; then the families come in the other order, too.
    """
    camera = tiny().camera
    assert camera is not None
    frames = read_tables(root, "v1.0-mini", "mini_train")
    names = list({load_condition(name).family: name for name in NAMES}.values())  # the severest
    found = {}
    for name in reversed(names) if after else names:
        condition = load_condition(name)
        for frame in reversed(frames[1 : 2 + after]):
            arrays = loaded(condition, frame, frames, camera)
            found[name] = "".join(array_digest(array)[:8] for array in arrays)
    return [found[name] for name in sorted(found)]


def test_the_bits_are_the_same_in_another_process_and_another_order(synthetic_root: Path) -> None:
    here = digests(synthetic_root)
    command = [sys.executable, "-c", DIGEST, str(synthetic_root)]
    root = Path(__file__).parents[3]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.split() == here


def test_a_condition_of_a_user_is_loaded_from_its_file_and_known_by_its_bytes(
    tmp_path: Path,
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    condition = load_condition(f"{file}:dusk")
    assert condition.name == "dusk"
    assert condition.identity["user_file"] == file_digest(file)
    file.write_text(MINE + "\n# changed\n")
    assert load_condition(f"{file}:dusk").identity != condition.identity


def test_the_first_revision_adds_nothing_to_the_identity_and_a_later_one_does() -> None:
    condition = load_condition("fog-2")
    assert condition.identity == {
        "name": "fog-2",
        "family": "fog",
        "severity": 2,
        "parameters": {"alpha_per_m": 0.03, "beta_per_m_sr": 0.008},
        "seed": 0,
        "user_file": None,
    }
    second = replace(condition, revision=2)
    assert second.identity == {**condition.identity, "revision": 2}
    with pytest.raises(ConfigError, match="'fog-2': revision is 0, the first is 1"):
        replace(condition, revision=0)


def test_the_example_of_the_page_does_what_it_says(tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    file = tmp_path / "mine.py"
    file.write_text(example)
    condition = load_condition(f"{file}:far_points_only")
    (changes,) = changes_of(condition, [record()])
    points = cloud([6, 7, 0, 1, 2], [6, 9, 0, 1, 2], [0, -10.1, 5, 1, 2])
    remaining = changes.lidar_file(points, changes.record.lidar_file)
    assert remaining.tolist() == points[1:].tolist()


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        ("{file}:nothing", "'nothing' is not a function that returns a Condition"),
        ("{file}:dawn", "'dawn' is not a function that returns a Condition"),
        ("{file}:noon", "'noon' is not a function that returns a Condition"),
        ("{file}s.py:dusk", "does not exist"),
        ("beams-4", "unknown condition 'beams-4'; did you mean beams-4-even .*file.py:function"),
        ("missing-0", "names a camera by a number.*missing-cam-front,"),
        ("missing-cam-3", "names a camera by a number.*missing-cam-front,"),
    ],
)
def test_a_condition_that_does_not_exist_is_refused(ref: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    with pytest.raises(ConfigError, match=words):
        load_condition(ref.format(file=file))
