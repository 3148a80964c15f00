"""What a run trains and what it freezes, part by part, as a table for its log and its folder."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

DEPTH = 2  # components in the name of a part, as in pts_bbox_head.transformer

COLUMNS = ("part", "trained", "frozen", "mb", "learning_rates", "batch_norms")


def freeze_report(module: nn.Module, optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """Describe every part of a module as it is now.

    Returns:
        A dictionary per part: numbers of parameters `trained` (in the optimizer) and `frozen`, size
        of parameters and buffers in `mb`, `learning_rates` before the schedule, and `batch_norms`
        in eval and in train mode.
    """
    rates = {
        id(p): group["initial_lr"] for group in optimizer.param_groups for p in group["params"]
    }
    parts: dict[str, dict[str, Any]] = {}
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        row = parts.setdefault(_part_of(name), _empty_row(name))
        row["mb"] += tensor.numel() * tensor.element_size() / 1e6
        if isinstance(tensor, nn.Parameter):
            row["trained" if id(tensor) in rates else "frozen"] += tensor.numel()
            row["learning_rates"] |= {rates[id(tensor)]} if id(tensor) in rates else set()
    for name, submodule in module.named_modules():
        if isinstance(submodule, _BatchNorm):
            row = parts.setdefault(_part_of(f"{name}.weight"), _empty_row(f"{name}.weight"))
            row["batch_norms"]["train" if submodule.training else "eval"] += 1
    return [
        row | {"mb": round(row["mb"], 3), "learning_rates": sorted(row["learning_rates"])}
        for row in parts.values()
    ]


def freeze_report_as_text(report: Sequence[dict[str, Any]]) -> str:
    """Return a report as an aligned table, without parts that hold only constants."""
    shown = [row for row in report if row["trained"] or row["frozen"]]
    lines = [COLUMNS, *([_cell(row[column]) for column in COLUMNS] for row in shown)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _part_of(name: str) -> str:
    """Return the part a tensor belongs to, from its name."""
    return ".".join(name.split(".")[:-1][:DEPTH])


def _empty_row(name: str) -> dict[str, Any]:
    return {
        "part": _part_of(name),
        "trained": 0,
        "frozen": 0,
        "mb": 0.0,
        "learning_rates": set(),
        "batch_norms": {"eval": 0, "train": 0},
    }


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{count} {mode}" for mode, count in value.items() if count) or "-"
    if isinstance(value, list):
        return ", ".join(f"{rate:g}" for rate in value) or "-"
    return f"{value:,}" if isinstance(value, int) else str(value)
