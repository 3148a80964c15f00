"""Put a comparison together from run folders, and write it as text, tables and a page."""

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.errors import ConfigError
from shared.process.folder_lock import make_folder
from shared.process.whole_file import whole_file
from stage2_train.comparison.compared_run import (
    PAGE,
    ComparedRun,
    UnreadableRunError,
    read_run,
    run_folders,
)
from stage2_train.comparison.conditions_table import conditions_table
from stage2_train.comparison.html_page import comparison_page
from stage2_train.comparison.paired_test import (
    REPLICATES,
    group_differences,
    run_differences,
)
from stage2_train.comparison.report_tables import (
    ReportTable,
    Scores,
    differences_table,
    fields_table,
    groups_table,
    runs_table,
)
from stage2_train.comparison.run_evaluations import ranked_evaluations
from stage2_train.comparison.run_groups import RunGroup, seed_groups
from stage2_train.comparison.scored_runs import score_runs
from stage2_train.evaluation.metric_tables import markdown_table, plain_table

MARKDOWN = "comparison.md"
# Below these a bootstrap's intervals are known to be too narrow.
FEW_SCENES, FEW_SEEDS = 20, 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Runs and the tables that compare them.

    Args:
        runs: those that could be read.
        groups: the same, by what differs but the seed.
        tables: for people.
        skipped: what was named and is no comparable run, with the reason.
    """

    runs: tuple[ComparedRun, ...]
    groups: tuple[RunGroup, ...]
    tables: tuple[ReportTable, ...]
    skipped: tuple[str, ...]


def compare_runs(
    paths: Sequence[Path],
    nuscenes_root: Path | None = None,
    replicates: int = REPLICATES,
    evaluation: str | None = None,
) -> Comparison:
    """Compare run folders.

    Args:
        paths: run folders, or folders of a sweep.
        nuscenes_root: folder with the tables, for the paired test; None for none.
        replicates: of the test.
        evaluation: folder in each run whose detections to compare; None for the first of
            `ranked_evaluations`, in each run's newest repetition.

    Raises:
        ConfigError: if none of them is a run that can be compared, or has that evaluation.
        DatasetError: if the tables do not fit.
    """
    runs, skipped = _read(paths, evaluation)
    if not runs:
        reasons = "; ".join(skipped) or "a sweep's folder without runs"
        raise ConfigError(f"there is no run to compare among what was named: {reasons}")
    groups = seed_groups(runs)
    scores: Scores = {
        run.name: (run.summary["mean_ap"], run.summary["nd_score"])
        for run in runs
        if all(isinstance(run.summary.get(key), float) for key in ("mean_ap", "nd_score"))
    }
    tested: list[ReportTable] = []
    if nuscenes_root is not None:
        tested = _tested(runs, groups, nuscenes_root, replicates, scores)
    tables = [fields_table(runs), runs_table(runs, scores)]
    under_conditions = conditions_table(runs)
    tables += [] if under_conditions is None else [under_conditions]
    if len(groups) < len(runs):
        tables.append(groups_table(groups, scores))
    return Comparison(
        runs=tuple(runs),
        groups=tuple(groups),
        tables=(*tables, *tested),
        skipped=tuple(skipped),
    )


def _read(paths: Sequence[Path], evaluation: str | None) -> tuple[list[ComparedRun], list[str]]:
    folders = list(dict.fromkeys(path.resolve() for path in run_folders(paths)))
    above = os.path.commonpath([folder.parent for folder in folders]) if folders else ""
    ranked = ranked_evaluations(folders)
    if evaluation is not None:
        if evaluation not in ranked:
            raise ConfigError(
                f"--evaluation {evaluation}: no run has detections in a folder of this name; there "
                f"{'are ' + ', '.join(ranked) if ranked else 'is none'}"
            )
        ranked = [evaluation]
    runs, skipped = [], []
    for folder in folders:
        try:
            name = str(folder.relative_to(above))
            runs.append(read_run(folder, name, ranked, is_asked_for=evaluation is not None))
        except UnreadableRunError as error:
            skipped.append(f"{folder} is left out: {error}")
    return runs, skipped


def _tested(
    runs: Sequence[ComparedRun],
    groups: Sequence[RunGroup],
    root: Path,
    replicates: int,
    scores: Scores,
) -> list[ReportTable]:
    """Return the tables of the paired test; adds the scores of the runs it tested."""
    scored = score_runs(runs, root, replicates)
    notes, resampled = [*scored.notes], scored.resampled
    scenes = len(set(scored.scenes.values()))
    if resampled and scenes < 2:
        notes.append("There is only one scene, so what other scenes would have changed is unknown.")
    for name, of_run in resampled.items():
        scores[name] = (float(of_run.whole[0]), float(of_run.whole[1]))
    if scenes < 2 or len(resampled) < 2:
        return [differences_table("pairs", "Differences between runs", (), notes)]
    notes.append(
        f"Paired bootstrap, {replicates} draws of {scenes} scenes: the interval covers what other "
        "scenes would have changed, not what another seed would have."
    )
    if scenes < FEW_SCENES:
        notes.append(f"{scenes} scenes are few: true intervals are wider than these.")
    pairs = differences_table(
        "pairs", "Differences between runs", run_differences(resampled), notes
    )
    members = {
        group.name: [run.name for run in group.runs if run.name in resampled] for group in groups
    }
    members = {name: of_group for name, of_group in members.items() if of_group}
    if len(members) < 2 or len(members) == len(resampled):
        return [pairs]
    notes = ["Scenes and the seeds of a setting are both drawn, so the interval covers both."]
    fewest = min(len(of_group) for of_group in members.values())
    if fewest < FEW_SEEDS:
        notes.append(
            f"A setting has {fewest} seed{'s' if fewest > 1 else ''}, which is few: true intervals "
            "are wider than these."
        )
    over = differences_table(
        "group_pairs",
        "Differences between settings, over seeds",
        group_differences(resampled, members),
        notes,
    )
    return [over, pairs]


def as_text(comparison: Comparison) -> str:
    """Return a comparison for the terminal."""
    blocks = [*comparison.skipped]
    for table in (table.shortened() for table in comparison.tables):
        rows = plain_table(table.head, table.rows) if table.rows else []
        blocks.append("\n".join([f"\n{table.title}", *rows, *table.notes]))
    return "\n".join(blocks)


def write_comparison_files(comparison: Comparison, out: Path) -> None:
    """Write comparison.md, comparison.html and a CSV of every table.

    Raises:
        ConfigError: if `out` is a file.
        OSError: if the disk is full, for example.
    """
    make_folder(out)
    with whole_file(out / MARKDOWN, "w") as file:
        file.write(_markdown(comparison))
    for table in comparison.tables:
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows((table.head, *table.rows))
        with whole_file(out / f"{table.name}.csv", "w") as file:
            file.write(buffer.getvalue())
    with whole_file(out / PAGE, "w") as file:
        file.write(
            comparison_page(
                comparison.runs, comparison.groups, comparison.tables, comparison.skipped
            )
        )


def _markdown(comparison: Comparison) -> str:
    parts = ["# Comparison of runs\n", *(f"- {reason}\n" for reason in comparison.skipped)]
    for table in (table.shortened() for table in comparison.tables):
        cells = [[cell.replace("|", "\\|") for cell in row] for row in (table.head, *table.rows)]
        parts.append(f"\n## {table.title}\n\n")
        parts += [markdown_table(cells[0], cells[1:])] if table.rows else []
        parts += [f"\n{note}\n" for note in table.notes]
    return "".join(parts)
