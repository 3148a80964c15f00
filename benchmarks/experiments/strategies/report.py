"""Write docs/strategies.md and its pictures from the existing results.

python -m benchmarks.experiments.strategies.report
"""

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.experiments.strategies.convergence_report import convergence_section
from benchmarks.experiments.strategies.plot_curves import plot_same_curve, plot_strategies
from benchmarks.markdown import table

RESULTS = Path("benchmarks/results")
DOCS = Path("docs")
SAME_CURVE = RESULTS / "same_curve.json"
BASES = ("live_frozen_a", "frozen_a")  # with which time and memory are compared

# Predicted before anything was measured: time and memory of a step, relative to frozen training.
PREDICTED = {
    "frozen_a": ("1.0", "1.0"),
    "finetune_low": ("1.3", "1.4"),
    "finetune": ("1.5", "1.6"),
}
HEADS = (
    "strategy",
    "s per step",
    "data",
    "forward",
    "backward",
    "optimizer",
    "CPU s per step",
    "of live_frozen_a",
    "of frozen_a",
    "predicted",
    "peak MB",
    "of live_frozen_a",
    "of frozen_a",
    "predicted",
    "trained",
    "frozen",
    "frozen tensors changed",
    "loss, last tenth",
    "mAP",
    "NDS",
)

HEAD = """# Strategies, side by side

Written by `python -m benchmarks.experiments.strategies` (see its docstring); do not edit. Every
strategy ran in its own process and took the same samples in the same order with the same denoising
noise and dropout. Seconds are medians over the steps after the first fifth; CPU seconds are the
processor time of the whole training divided by its steps, which other work on the machine hardly
changes, so strategies are compared by them; memory is the peak of the process while training
(resident without a GPU, allocated with a GPU). No strategy kept the memory that it frees when the
results on a CPU were measured; now all do, and three steps of `frozen_a` at batch 2 on
`r50_800x320` take 10% less processor time and 2% more memory than before.

- `frozen_a`, `frozen_b`, `frozen_all`, `aqr_only`: the recipes of `stage2_train`, from the store.
- `live_frozen_a`: `frozen_a` with the frozen backbones run in every step, which a store replaces.
  Loading raw files counts as `data`, the backbones as `forward`.
- `finetune_low`, `finetune`: `frozen_a` with gradients through the image backbone (x0.01, x1) and
  SECOND (x0.05, x1). **On a CPU the sparse encoder stays frozen here**, although spconv's Native
  algorithm has a backward there, with which `benchmarks.experiments.pretrain_tiny` trains it.
  SECOND's BatchNorm also trains. With seeded backbones its running statistics are not those of the
  data, and what a head has learnt is lost at first ([LOG.md](../LOG.md)); with trained ones not.
- `predicted`: what was expected before anything was measured: frozen 1.0, low 1.3 in time and 1.4
  in memory, full 1.5 and 1.6. The prediction does not say whether its frozen run reads a store, so
  it has a column for either. Its mAP of 0.648, 0.647 and 0.642 needs the official checkpoint and
  nuScenes; nothing here supports or contradicts it.
"""


def machine() -> str:
    """Return the hardware that computes, in words."""
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return f"{os.cpu_count()} CPU cores ({platform.machine()}), no GPU"


def write_report(results: Path = RESULTS, docs: Path = DOCS) -> Path:
    """Write the page and its pictures; return the page."""
    parts = [HEAD]
    for file in sorted(results.glob("strategies_*.json"), reverse=True):
        document, picture = json.loads(file.read_text()), docs / f"{file.stem}.png"
        plot_strategies(document, picture)
        parts.append(_section(file.stem.removeprefix("strategies_"), document, picture))
    for file in sorted(results.glob("convergence_*.json"), reverse=True):
        parts.append(convergence_section(json.loads(file.read_text()), docs / f"{file.stem}.png"))
    same_curve = results / SAME_CURVE.name
    if same_curve.exists():
        document, picture = json.loads(same_curve.read_text()), docs / f"{same_curve.stem}.png"
        plot_same_curve(document, picture)
        parts.append(_same_curve(document, picture))
    page = docs / "strategies.md"
    page.write_text("\n".join(parts))
    return page


def _section(name: str, document: dict[str, Any], picture: Path) -> str:
    rows = {row["strategy"]: row for row in document["strategies"]}
    loads = [row["load"] for row in rows.values()]
    return "\n".join(
        (
            f"## {name}\n",
            f"{document['steps']} steps of batch {document['batch_size']} from "
            f"{document['samples']} samples, preset `{document['preset']}`, from "
            f"{document['started_from']}, rates {document['rates']}. {document['machine']}; load "
            f"{min(loads):.1f} to {max(loads):.1f}, so other work shared the machine where it "
            "exceeds the cores.\n",
            table(HEADS, [_cells(row, rows) for row in rows.values()]),
            f"\n![loss curves]({picture.name})\n",
        )
    )


def _cells(row: dict[str, Any], rows: dict[str, dict[str, Any]]) -> list[str]:
    predicted_time, predicted_memory = PREDICTED.get(row["strategy"], ("", ""))
    changed, last = row["frozen_tensors_changed"], row["loss"][-max(len(row["loss"]) // 10, 1) :]
    return [
        row["strategy"],
        f"{row['seconds_per_step']:.3g}",
        *(f"{row['seconds'][name]:.3g}" for name in ("data", "forward", "backward", "update")),
        f"{row['cpu_seconds_per_step']:.3g}",
        *_ratios(row, rows, "cpu_seconds_per_step"),
        predicted_time,
        f"{row['peak_memory_mb']:.0f}",
        *_ratios(row, rows, "peak_memory_mb"),
        predicted_memory,
        f"{row['trained_parameters']:,}",
        f"{row['frozen_parameters']:,}",
        f"{len(changed)} of {row['frozen_tensors']}",
        f"{sum(last) / len(last):.2f}",
        *(f"{row[name]:.4f}" if name in row else "" for name in ("mAP", "NDS")),
    ]


def _ratios(row: dict[str, Any], rows: dict[str, dict[str, Any]], field: str) -> list[str]:
    return [f"{row[field] / rows[base][field]:.2f}" if base in rows else "" for base in BASES]


def _same_curve(document: dict[str, Any], picture: Path) -> str:
    lines = [
        "## The same curve, cached and live\n",
        "Written by `python -m benchmarks.experiments.strategies.same_curve`. The same recipe and "
        f"seed, batch {document['batch_size']}, preset `{document['preset']}`, "
        f"{document['samples']} samples, {document['machine']}: from the float16 store, from the "
        "same features kept in float32, "
        "live, and live with features rounded to float16. `same bits` compares every scalar of "
        "every step: all loss terms, gradient norms and AQR's weights. The control is the float32 "
        "run with every starting weight times 1 + 2^-23, one rounding of float32. An absent LiDAR "
        "is a cloud of one voxel: alone, as null features are computed, its sparse convolutions "
        "sum in another order than beside a real cloud in a live batch. With trained weights that "
        "is 1.7e-7 in float32, and the cause of DIFFERENT below.\n",
    ]
    heads = ("run", "steps", "scalars a step", "store = live rounded", "float32 = live")
    rows = [
        [
            name,
            str(run["steps"]),
            str(run["scalars_per_step"]),
            *("same bits" if same else "DIFFERENT" for same in run["same_bits"].values()),
        ]
        for name, run in document["runs"].items()
    ]
    lines += [table(heads, rows), ""]
    first = next(iter(document["runs"].values()))
    marks = list(first["float16_to_float32"]["largest"])
    gaps = ("run", "against float32", *(f"up to step {mark}" for mark in marks), "mean of all")
    lines += [
        "Largest relative difference of the total loss, and that of the mean of all steps:\n",
        table(gaps, list(_gap_rows(document))),
        f"\n![differences]({picture.name})\n",
    ]
    return "\n".join(lines)


def _gap_rows(document: dict[str, Any]) -> Sequence[list[str]]:
    return [
        [
            name,
            words,
            *(f"{gap:.1e}" for gap in run[field]["largest"].values()),
            f"{run[field]['of_mean']:.1e}",
        ]
        for name, run in document["runs"].items()
        for words, field in (
            ("float16 store", "float16_to_float32"),
            ("control", "control_to_float32"),
        )
    ]


if __name__ == "__main__":
    print(write_report())
