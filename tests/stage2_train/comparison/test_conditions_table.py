"""Runs that were validated under conditions are compared by what validation.csv says of each."""

from pathlib import Path

from stage2_train.comparison.compare import Comparison, compare_runs, write_comparison_files
from stage2_train.comparison.report_tables import ReportTable
from tests.stage2_train.comparison.run_folders import write_run

BEAMS = """step,samples,loss,mAP,NDS,loss/beams,mAP/beams,NDS/beams,mean_NDS,seconds
2,4,3.5,0.10,0.40,4.5,0.0,0.10,0.25,1.5
4,4,3.0,0.20,0.30,4.0,0.1,0.25,0.275,1.5
6,4,3.2,0.30,,4.1,0.1,,,1.5
"""
TWO = """step,samples,loss,mAP,NDS,loss/dark,mAP/dark,NDS/dark,NDS/beams,mean_NDS,seconds
2,4,3.5,0.10,0.60,4.5,0.0,0.30,0.15,0.35,1.5
"""


def deltas(**digests: str) -> dict[str, object]:
    return {"validation": {"store": ["s", "d"], "conditions": digests}}


def tables_of(comparison: Comparison) -> dict[str, ReportTable]:
    return {table.name: table for table in comparison.tables}


def test_nds_of_each_condition_is_that_of_the_best_mean_and_so_is_the_step(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "a", validation=BEAMS, config=deltas(beams="1" * 64)),
        write_run(
            tmp_path / "b", seed=1, validation=TWO, config=deltas(beams="1" * 64, dark="2" * 64)
        ),
        write_run(tmp_path / "c", learning_rate=1.0, validation="step,loss,NDS\n2,1.0,0.9\n"),
    ]
    tables = tables_of(compare_runs(runs))

    table = tables["conditions"]
    assert table.head == ("run", "step", "clean", "beams", "dark", "mean")
    assert table.rows == (
        ("a", "4", "0.3000", "0.2500", "-", "0.2750"),
        ("b", "2", "0.6000", "0.1500", "0.3000", "0.3500"),
    )
    assert "not validated under the same conditions" in table.notes[1]
    of_runs = dict(zip(tables["runs"].head, zip(*tables["runs"].rows, strict=True), strict=True))
    assert of_runs["best NDS"] == ("0.4000", "0.6000", "0.9000")
    assert of_runs["best mean NDS"] == ("0.2750", "0.3500", "-")
    assert of_runs["mean NDS at step"] == ("4", "2", "-")


def test_runs_without_conditions_have_no_such_table_and_no_such_column(tmp_path: Path) -> None:
    plain = "step,samples,loss,mAP,NDS\n2,4,1.0,0.1,0.2\n"
    no_tables = "step,samples,loss,mAP,NDS,loss/beams,mAP/beams,NDS/beams,mean_NDS\n2,4,1,,,2,,,\n"
    for validation in (plain, no_tables):
        folder = tmp_path / str(len(validation))
        run = write_run(folder, validation=validation, config=deltas(beams="1" * 64))
        tables = tables_of(compare_runs([run]))
        assert "conditions" not in tables
        assert "best mean NDS" not in tables["runs"].head


def test_means_of_seeds_have_their_spread_a_note_only_where_deltas_differ_and_a_curve(
    tmp_path: Path,
) -> None:
    runs = [
        write_run(
            tmp_path / f"run{seed}",
            seed=seed,
            validation=BEAMS.replace("0.275", mean),
            config=deltas(beams="1" * 64),
        )
        for seed, mean in enumerate(("0.275", "0.475"))
    ]
    comparison = compare_runs(runs)
    tables = tables_of(comparison)

    assert tables["seeds"].head[-1] == "best mean NDS"
    assert tables["seeds"].rows[0][-1] == "0.3750 +- 0.1414"
    assert len(tables["conditions"].notes) == 1
    write_comparison_files(comparison, tmp_path / "compared")
    assert "Mean NDS over conditions in" in (tmp_path / "compared" / "comparison.html").read_text()
    assert (tmp_path / "compared" / "conditions.csv").read_text().startswith("run,step,clean,")


def test_a_delta_that_was_trained_with_is_a_difference_between_runs_that_have_it(
    tmp_path: Path,
) -> None:
    pairs = {"conditions": [["beams", 0.5]]}
    clean = write_run(tmp_path / "clean", conditions=[])
    first = write_run(tmp_path / "first", config={"conditions": {"beams": "1" * 64}}, **pairs)
    second = write_run(tmp_path / "second", config={"conditions": {"beams": "2" * 64}}, **pairs)

    assert tables_of(compare_runs([clean, first]))["fields"].head == (
        *("run", "conditions", "conditions.beams"),
    )
    table = tables_of(compare_runs([first, second]))["fields"]
    assert table.head == ("run", "delta of beams")
    assert [row[1] for row in table.rows] == ["1" * 10, "2" * 10]
