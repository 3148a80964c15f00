"""Starts the process of a strategy."""

import json
import shutil
from typing import Any

from benchmarks.console_scripts import run_console_script
from benchmarks.experiments.strategies.live_recipes import is_live
from benchmarks.experiments.strategies.measured_run import RESULT, Order


def run_strategy(order: Order) -> dict[str, Any]:
    """Run a strategy in a new process and a new folder; return what it measured."""
    shutil.rmtree(order.out, ignore_errors=True)
    module = "run_live" if is_live(order.strategy) else "run_cached"
    run_console_script(
        "python", "-m", f"benchmarks.experiments.strategies.{module}", *order.words()
    )
    result: dict[str, Any] = json.loads((order.out / RESULT).read_text())
    return result
