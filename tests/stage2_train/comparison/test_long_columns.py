"""Values too long for a terminal are named there, and shown in the CSV file and on the page."""

import csv
import json
from pathlib import Path

import pytest

from stage2_train.compare_runs import main as compare
from stage2_train.comparison.compared_run import read_run
from stage2_train.comparison.run_groups import seed_groups
from tests.stage2_train.comparison.run_folders import write_run


@pytest.mark.parametrize("names", [("free", "frozen"), ("mine", "mine")])
def test_long_values_are_only_named_in_the_terminal_and_shown_in_csv_and_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], names: tuple[str, str]
) -> None:
    parts = [f"pts_bbox_head.part_{i}" for i in range(12)]
    frozen, free = tmp_path / "runs" / "frozen", tmp_path / "runs" / "free"
    write_run(free, name=names[0], frozen=[], clip_norm=35.0)
    write_run(frozen, name=names[1], frozen=parts, clip_norm=10.0)

    assert compare([str(free), str(frozen), "--out", str(tmp_path / "out")]) == 0

    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 120
    assert parts[0] not in said
    assert "They also differ in frozen, too long for here: --out writes fields.csv." in said
    shown = said.partition("What differs\n")[2].splitlines()[0].split()
    assert shown == (["run", "name", "clip_norm"] if len({*names}) == 2 else ["run", "clip_norm"])
    with (tmp_path / "out" / "fields.csv").open(newline="") as file:
        assert [json.loads(row["frozen"]) for row in csv.DictReader(file)] == [[], parts]
    page = (tmp_path / "out" / "comparison.html").read_text()
    assert parts[-1] in page.partition("<details>")[2].partition("</details>")[0]
    assert parts[-1] not in page.partition("<details>")[0]


def test_a_group_that_only_long_values_set_apart_is_named_by_its_first_run(tmp_path: Path) -> None:
    parts = [f"pts_bbox_head.part_{i}" for i in range(12)]
    paths = [
        write_run(tmp_path / f"{name}{seed}", frozen=frozen, seed=seed)
        for name, frozen in (("free", []), ("frozen", parts))
        for seed in (0, 1, 2)
    ]
    groups = seed_groups([read_run(path, path.name) for path in paths])
    assert [group.name for group in groups] == ["frozen=[]", "frozen0 and 2 more"]
