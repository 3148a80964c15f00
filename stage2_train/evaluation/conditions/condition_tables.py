"""The table of an evaluation under conditions: conditions.md, conditions.json, conditions.csv."""

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from shared.process.whole_file import whole_file
from stage2_train.evaluation.conditions.judging import ConditionResult
from stage2_train.evaluation.conditions.relative_scores import RelativeScores, relative_scores
from stage2_train.evaluation.conditions.score_baseline import ScoreBaseline
from stage2_train.evaluation.conditions.table_notes import table_notes
from stage2_train.evaluation.metric_tables import MEANS, markdown_table, means_of

COMPARISON = "conditions.md"
WEIGHTS = ("lidar_weight", "lidar_change", "cameras_weight", "cameras_change")

Row = dict[str, Any]


def nds_of(results: Sequence[ConditionResult]) -> dict[tuple[str, int | None], float]:
    """Return the NDS of every condition, by `JudgedCondition.key`."""
    return {result.condition.key: result.summary["nd_score"] for result in results}


def write_condition_tables(
    out: Path, results: Sequence[ConditionResult], baseline: ScoreBaseline | None = None
) -> None:
    """Write the table in all three forms; RRA is in percent in the text, a fraction elsewhere.

    Args:
        out: folder.
        results: the clean samples first.
        baseline: to compare with.
    """
    conditions = [result.condition for result in results]
    reference = None if baseline is None else baseline.numbers
    scores = relative_scores(conditions, nds_of(results), reference)
    rows = [_row(result, scores, results[0], baseline) for result in results]
    document = {
        "coverage": results[0].summary["coverage"],
        "baseline": None if baseline is None else baseline.name,
        "conditions": {row["condition"]: row for row in rows},
        "families": [asdict(f) | {"is_counted": f.is_counted} for f in scores.families],
        "mRA": scores.mra,
        "mRRA": scores.mrra,
        "notes": table_notes(results, scores, baseline),
    }
    path = out / COMPARISON
    with whole_file(path.with_suffix(".json"), "w") as file:
        json.dump(document, file, indent=2)
    with whole_file(path.with_suffix(".csv"), "w") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    with whole_file(path, "w") as file:
        file.write(_text(rows, scores, document))


def _row(
    result: ConditionResult,
    scores: RelativeScores,
    clean: ConditionResult,
    baseline: ScoreBaseline | None,
) -> Row:
    condition = result.condition
    row: Row = {
        "condition": condition.name,
        "family": condition.family,
        "severity": condition.severity,
        **dict(zip(MEANS, means_of(result.summary), strict=True)),
        "RA": scores.ra[condition.name],
    }
    if baseline is not None:
        row["baseline_NDS"] = baseline.numbers.get(condition.key)
        row["RRA"] = scores.rra[condition.name]
    if result.sensor_weights is not None and clean.sensor_weights is not None:
        pairs = zip(result.sensor_weights, clean.sensor_weights, strict=True)
        row |= zip(WEIGHTS, (n for now, before in pairs for n in (now, now - before)), strict=True)
    return row


def _text(rows: Sequence[Row], scores: RelativeScores, document: Row) -> str:
    """Return the tables in Markdown."""
    compared = document["baseline"] is not None
    added = ("baseline NDS", "RRA %") if compared else ()
    head = ("condition", "family", "severity", *MEANS, "RA", *added)
    cells = [
        (
            *(row["condition"], row["family"], str(row["severity"] or "-")),
            *(_number(row[name]) for name in (*MEANS, "RA")),
            *((_number(row["baseline_NDS"]), _percent(row["RRA"])) if compared else ()),
        )
        for row in rows
    ]
    against = f" Baseline: {document['baseline']}." if compared else ""
    parts = [f"Evaluated: {document['coverage']}.{against}\n", markdown_table(head, cells)]
    if scores.families:
        parts.append(_family_table(scores, compared))
    if WEIGHTS[0] in rows[0]:
        parts.append(_weight_table(rows))
    parts += [f"- {note}" for note in document["notes"]]
    return "\n".join(parts) + "\n"


def _family_table(scores: RelativeScores, compared: bool) -> str:
    rows = [
        (
            *(family.family, ", ".join(map(str, family.severities)), _number(family.ra)),
            *((_percent(family.rra),) * compared),
            "yes" if family.is_counted else "no",
        )
        for family in scores.families
    ]
    rows.append(
        ("mean (mRA, mRRA)", "", _number(scores.mra), *((_percent(scores.mrra),) * compared), "")
        if compared
        else ("mean (mRA)", "", _number(scores.mra), "")
    )
    return markdown_table(
        ("family", "severities", "RA", *(("RRA %",) * compared), "in the mean"), rows
    )


def _weight_table(rows: Sequence[Row]) -> str:
    return markdown_table(
        ("mean sensor weight", "LiDAR", "change", "cameras", "change"),
        [
            (
                row["condition"],
                *(
                    f"{row[name]:+.3f}" if name.endswith("change") else f"{row[name]:.3f}"
                    for name in WEIGHTS
                ),
            )
            for row in rows
        ],
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:+.2f}"
