"""The table of NDS under conditions, of runs whose validations measured it."""

from collections.abc import Sequence

from stage2_train.comparison.compared_run import MEAN_NDS, ComparedRun
from stage2_train.comparison.report_tables import ReportTable, number
from stage2_train.comparison.run_groups import ABSENT

UNDER = "NDS/"  # before the name of a condition, in columns of validation.csv


def conditions_table(runs: Sequence[ComparedRun]) -> ReportTable | None:
    """Return NDS under every condition in the validation with a run's highest mean.

    None if no run was validated under conditions, or without what gives NDS.
    """
    rows_at = {run.name: run.best_validation(MEAN_NDS, is_high=True) for run in runs}
    measured = [(run, at) for run in runs if (at := rows_at[run.name]) is not None]
    if not measured:
        return None
    every = dict.fromkeys(column for run, _ in measured for column in run.validation)
    under = [column for column in every if column.startswith(UNDER)]
    notes = ["Of the validation with the highest mean, on the samples that validations take."]
    if len({_deltas_of(run) for run, _ in measured}) > 1:
        notes.append(
            "The runs were not validated under the same conditions, so their means, here and in "
            "other tables, cannot be compared."
        )
    return ReportTable(
        name="conditions",
        title="NDS under conditions in validation",
        head=("run", "step", "clean", *(name.removeprefix(UNDER) for name in under), "mean"),
        rows=tuple(
            (
                *(run.name, f"{run.validation['step'][at]:.0f}"),
                *(_cell(run, column, at) for column in ("NDS", *under, MEAN_NDS)),
            )
            for run, at in measured
        ),
        notes=tuple(notes),
    )


def _cell(run: ComparedRun, column: str, at: int) -> str:
    values = run.validation.get(column)
    return ABSENT if values is None else number(float(values[at]))


def _deltas_of(run: ComparedRun) -> tuple[tuple[str, str], ...]:
    """Return the fields of a run's config that say which delta stores validated it."""
    fields = run.config.items()
    return tuple(sorted((k, str(v)) for k, v in fields if k.startswith("validation.conditions.")))
