"""A condition travels by reference, and is the same wherever it arrives."""

import pickle
from pathlib import Path

import pytest

from shared.config.preset_catalogue import tiny
from shared.errors import ConfigError, DatasetError, UsersProgramError
from stage1_extract.extraction.stages.loader_processes import LoaderProcesses
from stage1_extract.extraction.stages.stage_widths import most_raw_bytes
from stage1_extract.nuscenes.nuscenes_tables import read_tables
from stage1_extract.nuscenes.records import SampleRecord
from stage1_extract.preprocessing.conditioned_input import ConditionedInput
from stage1_extract.preprocessing.raw_frames import RawFrames
from tests.child_processes import PATIENCE_S

GREY = """from stage1_extract.conditions.condition import Condition


def grey():
    return Condition(
        name="grey", family="grey", source="made up", image=lambda pixels, draw: pixels // 2
    )
"""
STUCK = """from stage1_extract.conditions.condition import Condition
from stage1_extract.conditions.sample_edits import SampleEdits, StuckAt


def stuck():
    def edits(records, condition):
        return [SampleEdits(lidar=StuckAt("elsewhere")) for _ in records]

    return Condition(name="stuck", family="stuck", source="made up", edits=edits)
"""
DARKER = GREY.replace("// 2", "// 4")


@pytest.fixture
def records(synthetic_root: Path) -> list[SampleRecord]:
    return read_tables(synthetic_root, "v1.0-mini", "mini_train")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "grey.py"
    file.write_text(GREY)
    return file


def sent(conditioned: ConditionedInput) -> ConditionedInput:
    """Return what another process gets."""
    arrived = pickle.loads(pickle.dumps(conditioned))
    assert isinstance(arrived, ConditionedInput)
    return arrived


def test_a_condition_arrives_as_it_was_sent(records: list[SampleRecord], file: Path) -> None:
    for ref in ("camera-stuck-90", f"{file}:grey"):
        conditioned = ConditionedInput(ref, records)
        arrived = sent(sent(conditioned))
        assert arrived.condition.identity == conditioned.condition.identity
        assert arrived.edits == conditioned.edits


def test_a_file_that_was_edited_meanwhile_is_refused_by_name(
    records: list[SampleRecord], file: Path
) -> None:
    conditioned = ConditionedInput(f"{file}:grey", records)
    file.write_text(DARKER)
    with pytest.raises(ConfigError, match=r"grey\.py:grey is not what .* its user_file differs"):
        sent(conditioned).of(records[0])
    assert conditioned.of(records[0])[0].condition.name == "grey"  # loaded before
    file.write_text(GREY)
    sent(conditioned).of(records[0])


def test_what_a_file_imports_is_compared_by_what_it_makes_of_the_condition(
    records: list[SampleRecord], file: Path
) -> None:
    severity = file.with_name("severity.txt")
    severity.write_text("1")
    file.write_text(GREY.replace('source="', f'severity=int(open("{severity}").read()), source="'))
    conditioned = ConditionedInput(f"{file}:grey", records)
    severity.write_text("2")
    with pytest.raises(ConfigError, match="its severity differs"):
        sent(conditioned).of(records[0])


def test_a_sensor_that_is_stuck_at_a_sample_that_was_not_read_does_not_count_others(
    records: list[SampleRecord], file: Path
) -> None:
    file.write_text(STUCK)
    conditioned = ConditionedInput(f"{file}:stuck", records)
    with pytest.raises(DatasetError, match="at sample elsewhere, which is not among the samples r"):
        conditioned.of(records[0])


def test_a_loader_process_hands_over_the_refusal_and_ends_nothing_else(
    records: list[SampleRecord], file: Path
) -> None:
    frames = RawFrames(records, tiny(), None, ConditionedInput(f"{file}:grey", records))
    file.write_text(DARKER)
    pool = LoaderProcesses(frames, 1, sample_bytes=most_raw_bytes(tiny()), in_flight=1)
    try:
        with pytest.raises(ConfigError, match="restore that and run the same"):
            pool.load((0, 0)).result(PATIENCE_S)
        file.write_text("1 / 0")
        with pytest.raises(UsersProgramError, match=r"grey\.py, line 1: ZeroDivisionError"):
            pool.load((0, 0)).result(PATIENCE_S)
        file.write_text(GREY)
        sample, _ = pool.load((0, 1)).result(PATIENCE_S)
        assert sample.frame.token == records[1].token
    finally:
        pool.close()
