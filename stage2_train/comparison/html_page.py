"""A comparison as one HTML page that loads nothing: tables, and curves that can be hidden.

Its content policy forbids every request, so a browser would refuse what is not in the file.
"""

import html
from collections.abc import Sequence

from stage2_train.comparison.compared_run import MEAN_NDS, ComparedRun
from stage2_train.comparison.curve_chart import Curve, curve_chart
from stage2_train.comparison.report_tables import ReportTable
from stage2_train.comparison.run_groups import RunGroup

# Told apart also by people who do not see all colours, on white and on black (after Okabe and Ito).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9", "#8a63d2", "#888888")
DASHES = ("none", "8 4", "2 3", "10 3 2 3")  # runs of a group
CHARTS = (
    ("Training loss", "log", "loss"),
    ("NDS in validation", "validation", "NDS"),
    ("Mean NDS over conditions in validation", "validation", MEAN_NDS),
    ("mAP in validation", "validation", "mAP"),
    ("Loss in validation", "validation", "loss"),
)
STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.45 system-ui, sans-serif; color: #1a1a1a; background: #fff;
  max-width: 1100px; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.87rem }
th, td { padding: 0.25rem 0.6rem; border-bottom: 1px solid #d0d0d0; text-align: right;
  white-space: nowrap }
th:first-child, td:first-child { text-align: left }
.pairs th:nth-child(2), .pairs td:nth-child(2) { text-align: left }
tr.real td { font-weight: 600 }
p.note { color: #595959; margin: 0.35rem 0; font-size: 0.87rem }
svg { width: 100%; max-width: 760px; height: auto }
svg text { fill: #595959; font-size: 12px }
svg .grid { stroke: #d0d0d0; stroke-width: 0.6 }
svg polyline { fill: none; stroke-width: 1.8 }
.legend button { font: inherit; font-size: 0.82rem; color: inherit; background: none; margin: 2px;
  border: 1px solid #d0d0d0; border-radius: 4px; padding: 2px 8px; cursor: pointer }
.legend button[aria-pressed=false] { opacity: 0.4; text-decoration: line-through }
.legend svg { width: 28px; height: 8px; margin-right: 5px; vertical-align: middle }
@media (prefers-color-scheme: dark) {
  body { color: #e8e8e8; background: #161616 }
  th, td, .legend button { border-color: #3c3c3c }
  p.note { color: #a8a8a8 }
  svg text { fill: #a8a8a8 }
  svg .grid { stroke: #3c3c3c }
}
"""
SCRIPT = """
for (const button of document.querySelectorAll(".legend button")) {
  button.addEventListener("click", () => {
    const shown = button.getAttribute("aria-pressed") === "false";
    button.setAttribute("aria-pressed", shown);
    for (const line of document.querySelectorAll("polyline[data-run]"))
      if (line.dataset.run === button.dataset.run) line.style.display = shown ? "" : "none";
  });
}
document.documentElement.dataset.ready = "yes";
"""


def comparison_page(
    runs: Sequence[ComparedRun],
    groups: Sequence[RunGroup],
    tables: Sequence[ReportTable],
    skipped: Sequence[str],
) -> str:
    """Return the page.

    Args:
        runs: whose curves to plot.
        groups: the same runs; each has a colour, its runs have different dashes.
        tables: to show.
        skipped: what could not be compared, in words.
    """
    styles = _styles(groups)
    parts = [f"<h1>{len(runs)} runs compared</h1>", _notes(skipped)]
    parts += [
        f'<p class="legend">{"".join(_button(run.name, styles[run.name]) for run in runs)}</p>'
    ]
    for title, table, column in CHARTS:
        chart = curve_chart(_curves(runs, styles, table, column), title)
        parts += [f"<h2>{title}</h2>\n{chart}"] if chart else []
    parts += map(_table, tables)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{len(runs)} runs compared</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + f"\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def _styles(groups: Sequence[RunGroup]) -> dict[str, str]:
    """Return the SVG attributes of each run's lines."""
    return {
        run.name: f'stroke="{COLOURS[i % len(COLOURS)]}" '
        f'stroke-dasharray="{DASHES[k % len(DASHES)]}"'
        for i, group in enumerate(groups)
        for k, run in enumerate(group.runs)
    }


def _curves(
    runs: Sequence[ComparedRun], styles: dict[str, str], table: str, column: str
) -> list[Curve]:
    curves = []
    for run in runs:
        columns = run.log if table == "log" else run.validation
        if column in columns:
            curves.append(
                Curve(
                    run=run.name,
                    style=styles[run.name],
                    steps=columns["step"],
                    values=columns[column],
                )
            )
    return curves


def _button(run: str, style: str) -> str:
    name = html.escape(run)
    sample = f'<svg viewBox="0 0 28 8"><polyline {style} points="0,4 28,4"/></svg>'
    return f'<button data-run="{name}" aria-pressed="true">{sample}{name}</button>'


def _notes(notes: Sequence[str]) -> str:
    return "".join(f'<p class="note">{html.escape(note)}</p>' for note in notes)


def _table(table: ReportTable) -> str:
    grid = _grid(table.shortened())
    if table.long:
        grid += f"<details><summary>All columns</summary>{_grid(table)}</details>"
    return f"<h2>{html.escape(table.title)}</h2>\n{grid}{_notes(table.notes)}"


def _grid(table: ReportTable) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in table.head)
    is_real = table.head[-1] == "real"
    rows = "".join(
        f"<tr{' class=real' if is_real and row[-1] == 'yes' else ''}>"
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in row)
        + "</tr>"
        for row in table.rows
    )
    kind = ' class="pairs"' if is_real else ""
    return f'<div class="wide"><table{kind}><tr>{head}</tr>{rows}</table></div>' if rows else ""
