"""Metrics as text: the tables that `evaluate-stage2` prints and writes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

ERRORS = {
    "trans_err": "ATE m",
    "scale_err": "ASE",
    "orient_err": "AOE rad",
    "vel_err": "AVE m/s",
    "attr_err": "AAE",
}
# Official means under the names the devkit prints, but with NDS next to mAP.
MEANS = ("mAP", "NDS", "mATE", "mASE", "mAOE", "mAVE", "mAAE")


def metrics_as_text(summary: Mapping[str, Any]) -> str:
    """Format the summary of `official_metrics.judge`: as a whole, by class, by distance."""
    counts = summary["true_boxes"]
    classes = [
        (name, str(counts[name]), _number(ap), *_errors(summary["label_tp_errors"][name]))
        for name, ap in summary["mean_dist_aps"].items()
    ]
    bands = summary["by_distance"]
    means = [
        (f"{name} m", str(band["true_boxes"]), *map(_number, means_of(band)))
        for name, band in bands.items()
    ]
    aps = [
        (name, *(_number(band["classes"].get(name, {}).get("ap")) for band in bands.values()))
        for name in counts
        if counts[name]
    ]
    return "\n".join(
        [
            summary["coverage"],
            "",
            *plain_table(("official", *MEANS), [("all classes", *map(_number, means_of(summary)))]),
            f"mAP over the {len(aps)} classes that have true boxes here: "
            f"{_number(summary['mean_ap_present'])}",
            "",
            *plain_table(("class", "true boxes", "AP", *ERRORS.values()), classes),
            "",
            *plain_table(("ego distance", "true boxes", *MEANS), means),
            "(over the classes that have true boxes in the band)",
            "",
            *plain_table(("AP by distance", *(f"{name} m" for name in bands)), aps),
        ]
    )


def means_of(summary: Mapping[str, Any]) -> tuple[float | None, ...]:
    """Return the means of all samples or of a band, in the order of `MEANS`."""
    return (
        summary["mean_ap"],
        summary["nd_score"],
        *(summary["tp_errors"][error] for error in ERRORS),
    )


def plain_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table: first column left-aligned, the others right-aligned."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (head, *rows)
    ]


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table: first column left-aligned, the others right-aligned."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows)) + "\n"


def _errors(errors: Mapping[str, float]) -> list[str]:
    return [_number(errors[error]) for error in ERRORS]


def _number(value: float | None) -> str:
    """Return four decimals, or a dash where the number is not defined."""
    return "-" if value is None or math.isnan(value) else f"{value:.4f}"
