"""Runs are compared by what their folders hold; what cannot be is named with the reason."""

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stage2_train.compare_runs import main as compare
from stage2_train.comparison.compare import compare_runs
from stage2_train.comparison.compared_run import UnreadableRunError, read_run
from stage2_train.comparison.report_tables import ReportTable
from stage2_train.comparison.run_groups import seed_groups
from tests.stage2_train.comparison.run_folders import write_run
from tests.stage2_train.evaluation.submissions import META, spoilt, true_entries

VALIDATION = """step,samples,loss,mAP,NDS,seconds
2,4,3.5,0.10,0.30,1.5
4,4,3.0,,,1.5
6,4,3.2,0.30,0.40,1.5
8,4,3.1,0.20,0.35,1.5
"""


def table_of(paths: list[Path], name: str, root: Path | None = None) -> ReportTable:
    tables = {table.name: table for table in compare_runs(paths, root, 50).tables}
    return tables[name]


def columns(table: ReportTable) -> dict[str, tuple[str, ...]]:
    return dict(zip(table.head, zip(*table.rows, strict=True), strict=True))


def test_only_fields_that_differ_are_shown(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "a"),
        write_run(
            tmp_path / "b",
            start="c" * 64,
            learning_rate=2e-4,
            lr_multipliers=[["img_neck", 0.1], ["transformer", 0.5]],
            aqr={"bev_window": 7},
        ),
    ]
    shown = columns(table_of(runs, "fields"))
    assert shown == {
        "run": ("a", "b"),
        "learning_rate": ("0.0001", "0.0002"),
        "aqr": ("null", "-"),
        "lr_multipliers.img_neck": ("0.05", "0.1"),
        "aqr.bev_window": ("-", "7"),
    }


def test_equal_runs_are_said_to_be_equal(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name) for name in "ab"]
    assert "same recipe, preset and store" in table_of(runs, "fields").notes[0]


def test_different_stores_are_said(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "a"), write_run(tmp_path / "b", store="d" * 64)]
    table = table_of(runs, "fields")
    assert columns(table)["store"] == ("a" * 10, "d" * 10)
    assert "2 different stores" in table.notes[0]


def test_final_and_best_metrics_and_time_are_those_of_the_folder(tmp_path: Path) -> None:
    losses = tuple(float(40 - i) for i in range(40))
    run = write_run(tmp_path / "a", losses=losses, validation=VALIDATION, scores=(0.25, 0.375))
    (run / "finished.json").write_text('{"seconds": 3, "peak_memory_mb": 1234.4}')

    table = table_of([run], "runs")
    row = dict(zip(table.head, table.rows[0], strict=True))

    assert (row["steps"], row["final loss"]) == ("40", "2.5000")
    assert (row["mAP"], row["NDS"], row["best NDS"]) == ("0.2500", "0.3750", "0.4000")
    assert row["lowest val. loss"] == "3.0000"
    assert (row["s/step"], row["training min"], row["host MB"]) == ("0.6000", "0.4", "1234")
    assert (row["NDS at step"], row["loss at step"]) == ("6", "4")


def test_a_gpu_s_peak_is_the_highest_of_all_steps_also_of_a_resumed_run(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a")
    timing = "step,seconds/data,peak_gpu_mb\n1,1,700\n2,1,812.4\n3,1,500\n4,1,\n"
    (run / "timing.csv").write_text(timing)

    table = table_of([run, write_run(tmp_path / "on_a_cpu")], "runs")

    assert columns(table)["GPU MB"] == ("812", "-")


def test_a_run_without_validation_has_no_columns_for_it_and_a_note(tmp_path: Path) -> None:
    table = table_of([write_run(tmp_path / "a")], "runs")
    assert table.head == ("run", "steps", "final loss", "s/step", "training min")
    assert any("a: no results_nusc.json in it" in note for note in table.notes)


def test_runs_that_differ_in_their_seed_are_grouped_with_mean_and_spread(tmp_path: Path) -> None:
    runs = [
        *(
            write_run(tmp_path / f"a{i}", seed=i, start=f"{i}" * 64, scores=(0.1 * i, 0.2 * i))
            for i in range(3)
        ),
        write_run(tmp_path / "b", learning_rate=1.0, scores=(0.5, 0.5)),
    ]
    assert table_of(runs, "seeds").rows == (
        ("learning_rate=0.0001", "3", "1.0000 +- 0.0000", "0.1000 +- 0.1000", "0.2000 +- 0.2000"),
        ("b", "1", "1.0000", "0.5000", "0.5000"),
    )


def test_a_seed_given_as_an_option_is_a_seed(tmp_path: Path) -> None:
    paths = [
        write_run(tmp_path / f"a{i}", seed=i, config={"overrides": [f"seed={i}"]}) for i in (1, 2)
    ]
    (group,) = seed_groups([read_run(path, path.name) for path in paths])
    assert group.name == "mine"
    assert table_of(paths, "fields").head == ("run", "seed")


def test_a_recipe_that_no_other_group_has_names_its_group(tmp_path: Path) -> None:
    paths = [
        write_run(tmp_path / f"{name}{seed}", name=name, learning_rate=rate, seed=seed)
        for name, rate in (("slow", 1e-5), ("fast", 1e-3))
        for seed in (0, 1)
    ]
    groups = seed_groups([read_run(path, path.name) for path in paths])
    assert [group.name for group in groups] == ["slow", "fast"]


def test_runs_of_one_seed_from_different_checkpoints_are_no_repetitions(tmp_path: Path) -> None:
    paths = [write_run(tmp_path / name, start=name * 64) for name in "ab"]
    paths.append(write_run(tmp_path / "c", start="c" * 64, seed=1))
    runs = [read_run(path, path.name) for path in paths]
    assert [group.name for group in seed_groups(runs)] == ["a", "b", "c"]
    assert [group.name for group in seed_groups(runs[1:])] == ["mine"]


def test_what_is_no_whole_run_is_left_out_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "good")
    for name in ("torn_config", "torn_log", "no_log", "foreign", "empty_log"):
        write_run(tmp_path / name)
    (tmp_path / "torn_config" / "config.json").write_text('{"recipe": {"na')
    (tmp_path / "torn_log" / "log.csv").write_text("step,loss\n1,2.0\n2,\x00")
    (tmp_path / "no_log" / "log.csv").unlink()
    (tmp_path / "foreign" / "config.json").write_text('{"model": "another program"}')
    (tmp_path / "empty_log" / "log.csv").write_text("step,loss\n")
    (tmp_path / "file").write_text("")
    (tmp_path / "no_run").mkdir()

    assert compare([*map(str, sorted(tmp_path.iterdir())), str(tmp_path / "absent")]) == 0

    said = capsys.readouterr().out
    for name, reason in (
        *(("torn_config", "config.json cannot be read"), ("torn_log", "log.csv is damaged")),
        *(("no_log", "no log.csv yet"), ("foreign", "config.json has no recipe")),
        *(("empty_log", "log.csv is damaged: nothing in"), ("file", "no folder")),
        *(("no_run", "no run of train-stage2"), ("absent", "does not exist")),
    ):
        assert f"{tmp_path / name} is left out: {reason}" in said
    assert "\ngood " in said


def test_only_columns_that_are_compared_are_read(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", validation=VALIDATION)
    (run / "log.csv").write_text("step,loss,norm\n1,2.5,damaged\n\n2,,\n3\n4,1.5,0\n")
    (run / "timing.csv").write_text(
        "step,samples,seconds/data,peak_gpu_mb,host\n1,4,0.5,700,\n2,4,0.25,,damaged\n"
    )

    read = read_run(run, "a")

    np.testing.assert_equal(
        read.log,
        {"step": np.array([1.0, 2.0, 3.0, 4.0]), "loss": np.array([2.5, np.nan, np.nan, 1.5])},
    )
    assert read.timing.keys() == {"step", "seconds/data", "peak_gpu_mb"}
    assert read.peak_gpu_mb == 700
    np.testing.assert_array_equal(read.seconds, [0.5, 0.25])
    assert [*read.validation] == VALIDATION.splitlines()[0].split(",")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("step,loss,norm\n1,2.5,0\n2,x,0\n", "could not convert string to float: 'x'"),
        ("step,loss\n1,2.5\n2,2.5,0\n", "line 3: more cells than columns"),
        ('step,loss,norm\n1,2.5,"0" 0\n', "',' expected after '\"'"),
        ("step,loss,norm\n1,,0\n", "nothing in column loss"),
        ("norm\n1\n", "nothing in column step, loss"),
        ("", "nothing in column step, loss"),
    ],
)
def test_damage_where_a_log_is_read_is_named(tmp_path: Path, content: str, reason: str) -> None:
    run = write_run(tmp_path / "a")
    (run / "log.csv").write_text(content)
    with pytest.raises(UnreadableRunError, match=re.escape(reason)) as raised:
        read_run(run, "a")
    assert str(raised.value).startswith("log.csv is damaged")


def test_torn_timing_and_validation_are_noted_and_the_run_is_compared(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", validation="step,loss\n1,nonsense\n", scores=(0.5, 0.5))
    (run / "timing.csv").write_text("torn")
    (run / "validation" / "metrics_summary.json").write_text("{")
    table = table_of([run], "runs")
    notes = " ".join(table.notes)
    assert table.head == ("run", "steps", "final loss")
    for file in ("timing.csv", "validation.csv", "metrics_summary.json"):
        assert f"a: {file} " in notes


def test_nothing_to_compare_is_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare([str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: there is no run to compare")
    assert "no config.json" in said


def test_the_folder_of_a_sweep_stands_for_its_runs(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text("{}")
    for name in "ab":
        write_run(tmp_path / name)
    (tmp_path / "compared").mkdir()
    (tmp_path / "compared" / "comparison.html").touch()
    for paths in ([tmp_path], sorted(tmp_path.iterdir())):
        comparison = compare_runs(paths)
        assert [run.name for run in comparison.runs] == ["a", "b"]
        assert comparison.skipped == ()


@pytest.fixture
def tested(tables: Any, tmp_path: Path) -> dict[str, Path]:
    """Runs with detections in all six samples: nothing, spoilt boxes, the truth; one in fewer."""
    truth = true_entries(tables, [sample["token"] for sample in tables.sample])
    few = dict(list(truth.items())[:2])
    detections = {"poor": {token: [] for token in truth}, "fair": spoilt(truth), "good": truth}
    return {
        name: write_run(
            tmp_path / name,
            results={"meta": META, "results": results},
            learning_rate=float(i),
        )
        for i, (name, results) in enumerate({**detections, "few": few}.items())
    }


def test_pairs_of_runs_are_tested_on_the_samples_they_share(
    tested: dict[str, Path], synthetic_root: Path
) -> None:
    table = table_of(list(tested.values()), "pairs", synthetic_root)
    assert [row[:3] for row in table.rows] == [
        (first, second, metric)
        for first, second in (("good", "fair"), ("good", "poor"), ("fair", "poor"))
        for metric in ("mAP", "NDS")
    ]
    assert dict(zip(table.head, table.rows[2], strict=True))["real"] == "yes"
    notes = " ".join(table.notes)
    assert "few is left out of the test: it has 2 samples, not the same 6" in notes
    assert "50 draws of 2 scenes" in notes
    assert "2 scenes are few" in notes
    runs = columns(table_of(list(tested.values()), "runs", synthetic_root))
    scores = dict(zip(runs["run"], runs["NDS"], strict=True))
    assert scores["poor"] == "0.0000"
    assert float(scores["good"]) > float(scores["fair"]) > 0.2
    assert scores["few"] == "-"


def test_a_damaged_submission_is_left_out_of_the_test(
    tested: dict[str, Path], synthetic_root: Path
) -> None:
    (tested["fair"] / "validation" / "results_nusc.json").write_text('{"meta": ')
    table = table_of(list(tested.values()), "pairs", synthetic_root)
    assert [row[:2] for row in table.rows[::2]] == [("good", "poor")]
    assert "fair is left out of the test" in " ".join(table.notes)


def test_the_files_hold_what_the_terminal_shows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(2):
        write_run(tmp_path / "runs" / f"a{i}", seed=i, scores=(0.1, 0.2))
    out = tmp_path / "compared"
    assert compare([*map(str, (tmp_path / "runs").iterdir()), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert said.rstrip().endswith(str(out / "comparison.html"))
    with (out / "runs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["run"] for row in rows} == {"a0", "a1"}
    assert np.isclose(float(rows[0]["NDS"]), 0.2)
    markdown = (out / "comparison.md").read_text()
    assert "| mine | 2 | 1.0000 +- 0.0000 | 0.1000 +- 0.0000 | 0.2000 +- 0.0000 |" in markdown
    assert {file.name for file in out.iterdir()} == {
        *("comparison.md", "comparison.html", "fields.csv", "runs.csv", "seeds.csv"),
    }
