"""Runs of different code are told apart and never averaged."""

from pathlib import Path

import pytest

from stage2_train.compare_runs import main as compare
from stage2_train.comparison.compare import compare_runs
from stage2_train.comparison.compared_run import read_run
from stage2_train.comparison.run_groups import seed_groups
from tests.stage2_train.comparison.run_folders import write_run

A, B = "a" * 12, "123456789012"  # digits alone are no number


def groups_of(paths: list[Path]) -> dict[str, list[str]]:
    groups = seed_groups([read_run(path, path.name) for path in paths])
    return {group.name: [run.name for run in group.runs] for group in groups}


def test_runs_that_differ_only_in_code_are_two_groups_named_by_it(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / f"{code[0]}{seed}", seed=seed, code=code)
        for code in (A, B)
        for seed in (0, 1)
    ]
    assert groups_of(runs) == {f"code={A}": ["a0", "a1"], f"code={B}": ["10", "11"]}

    fields, *_, over_seeds = compare_runs(runs).tables

    assert fields.head == ("run", "seed", "code")
    assert [row[-1] for row in fields.rows] == [A, A, B, B]
    assert "Runs of different code are not averaged" in " ".join(fields.notes)
    assert [row[:2] for row in over_seeds.rows] == [(f"code={A}", "2"), (f"code={B}", "2")]


def test_runs_of_the_same_code_or_none_recorded_are_one_group(tmp_path: Path) -> None:
    known = [write_run(tmp_path / f"a{seed}", seed=seed, code=A) for seed in (0, 1)]
    old = [write_run(tmp_path / f"old{seed}", seed=seed) for seed in (0, 1)]
    for runs in (known, old):
        assert list(groups_of(runs).values()) == [[run.name for run in runs]]
        assert compare_runs(runs).tables[0].head == ("run", "seed")
        assert "code" not in " ".join(compare_runs(runs).tables[0].notes)
    assert groups_of([*known, *old]) == {
        f"code={A}": ["a0", "a1"],
        "code=unknown": ["old0", "old1"],
    }


def test_a_run_resumed_under_changed_code_is_no_repetition_of_the_others(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"a{seed}", seed=seed, code=A) for seed in (0, 1)]
    (runs[1] / "code.csv").write_text(f"step,code\n1,{A}\n3,{A}\n")
    assert groups_of(runs) == {"mine": ["a0", "a1"]}
    (runs[1] / "code.csv").write_text(f"step,code\n1,{A}\n3,{B}\n")
    assert groups_of(runs) == {"a0": ["a0"], "a1": ["a1"]}
    fields, of_runs, *_ = compare_runs(runs).tables
    assert [row[-1] for row in fields.rows] == [A, f"{A} then {B}"]
    assert f"a1: not all its steps are known to be by the same code: {A} then {B}." in of_runs.notes


def test_the_files_show_the_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [write_run(tmp_path / name, code=code) for name, code in (("x", A), ("y", B))]
    assert compare([*map(str, runs), "--out", str(tmp_path / "out")]) == 0
    shown = [capsys.readouterr().out]
    files = ("comparison.md", "comparison.html", "fields.csv")
    shown += [(tmp_path / "out" / name).read_text() for name in files]
    assert all(code in text for text in shown for code in (A, B))


def test_a_damaged_record_of_code_is_noted_and_counts_as_unknown(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "x"), write_run(tmp_path / "y", code=A)]
    (runs[1] / "code.csv").write_text("torn\n1\n")
    tables = {table.name: table for table in compare_runs(runs).tables}
    assert tables["fields"].head == ("run",)
    assert any("y: code.csv is damaged" in note for note in tables["runs"].notes)
