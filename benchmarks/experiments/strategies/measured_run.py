"""What one strategy's process is told, and what it measures of itself."""

import argparse
import csv
import json
import os
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from cache.reader import CachedFeatures
from shared.checkpoint.checkpoint_table import belongs
from shared.digests import array_digest
from shared.model.detector import CmtDetector
from stage2_train.evaluate import evaluate
from stage2_train.recipes.recipe import Recipe
from stage2_train.recipes.recipes import demo
from stage2_train.run.training_log import LOG, TIMING
from stage2_train.training.build import FREEZING

RESULT = "strategy.json"
PIECES = ("data", "forward", "backward", "update")
WARM_UP = 0.2  # share of the steps, the first ones, whose time does not count


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """One strategy to run.

    Args:
        strategy: name of its recipe.
        store: to train from, or whose samples and order to train on.
        nuscenes: root with tables and raw files.
        out: run folder.
        steps, batch_size, seed: of the run.
        start: run or checkpoint whose head it starts from; None starts with seeded weights.
        held_out: store to evaluate on.
        at_demo_rates: take learning rates and clipping of the recipe `demo`.
    """

    strategy: str
    store: Path
    nuscenes: Path
    out: Path
    steps: int
    batch_size: int
    seed: int = 0
    start: Path | None
    held_out: Path | None
    at_demo_rates: bool

    def words(self) -> list[str]:
        """Return the command line that `read` reads."""
        words = [self.strategy, self.store, self.nuscenes, self.out, self.steps, self.batch_size]
        return [
            *map(str, [*words, self.seed]),
            *(["--start", str(self.start)] if self.start else []),
            *(["--held-out", str(self.held_out)] if self.held_out else []),
            *(["--at-demo-rates"] if self.at_demo_rates else []),
        ]

    @classmethod
    def read(cls, argv: Sequence[str] | None = None) -> "Order":
        """Read the command line of a strategy's process."""
        parser = argparse.ArgumentParser()
        parser.add_argument("strategy")
        for name in ("store", "nuscenes", "out"):
            parser.add_argument(name, type=Path)
        for name in ("steps", "batch_size", "seed"):
            parser.add_argument(name, type=int)
        parser.add_argument("--start", type=Path)
        parser.add_argument("--held-out", type=Path)
        parser.add_argument("--at-demo-rates", action="store_true")
        return cls(**vars(parser.parse_args(argv)))

    def shortened(self, recipe: Recipe) -> Recipe:
        """Return the recipe at this length and batch size, and at the rates asked for."""
        short = replace(
            recipe,
            epochs=None,
            steps=self.steps,
            batch_size=self.batch_size,
            seed=self.seed,
            checkpoint_every=self.steps,
            keep_last=1,
        )
        return at_demo_rates(short) if self.at_demo_rates else short


def at_demo_rates(recipe: Recipe) -> Recipe:
    """Return a recipe that can learn from scratch on little data, and else is the same.

    The rates of necks, AQR and backbones stay in proportion to the base rate, which is higher.
    """
    fast, own = demo(), dict(recipe.lr_multipliers)
    own |= {key: rate for key, rate in fast.lr_multipliers if key in own}
    return replace(
        recipe,
        learning_rate=fast.learning_rate,
        lr_multipliers=tuple(own.items()),
        clip_norm=fast.clip_norm,
        peak_ratio=fast.peak_ratio,
        final_ratio=fast.final_ratio,
        rising_share=fast.rising_share,
    )


def frozen_digests(state: Mapping[str, Tensor], parts: Sequence[str]) -> dict[str, str]:
    """Return the digest of every frozen tensor of a state dict."""
    return {
        name: array_digest(values.cpu().numpy())
        for name, values in state.items()
        if belongs(name, parts)
    }


class Spent:
    """The processor time of a piece of work; unlike its seconds, other work hardly changes it."""

    def __init__(self) -> None:
        self._began = time.process_time()

    def measured(self, steps: int) -> dict[str, float]:
        """Return processor seconds per step since this was made, and the peak of memory."""
        seconds = (time.process_time() - self._began) / steps
        return {"cpu_seconds_per_step": seconds, "peak_memory_mb": peak_memory_mb()}


def peak_memory_mb() -> float:
    """Return the most memory this process has held: of the GPU, or resident without one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def measured(run: Path, *, before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, Any]:
    """Return what a finished run's folder says.

    Args:
        run: its folder.
        before: digests of what it froze, at its start.
        after: the same at its end.
    """
    losses, times = _rows(run / LOG), _rows(run / TIMING)
    counted = times[round(WARM_UP * len(times)) :]
    seconds = {name: median(row[f"seconds/{name}"] for row in counted) for name in PIECES}
    parts = json.loads((run / FREEZING).read_text())["parts"]
    return {
        "seconds": seconds,
        "seconds_per_step": median(sum(row[f"seconds/{p}"] for p in PIECES) for row in counted),
        "trained_parameters": sum(row["trained"] for row in parts),
        "frozen_parameters": sum(row["frozen"] for row in parts),
        "frozen_tensors": len(before),
        "frozen_tensors_changed": [n for n, digest in before.items() if after.get(n) != digest],
        "loss": [row["loss"] for row in losses],
    }


def _rows(file: Path) -> list[dict[str, float]]:
    with file.open(newline="") as handle:
        return [
            {name: float(value) for name, value in row.items() if value}
            for row in csv.DictReader(handle)
        ]


def finish(
    order: Order, found: dict[str, Any], detector: CmtDetector, held_out: CachedFeatures | None
) -> None:
    """Evaluate, if there is something to evaluate on, and write the result.

    Args:
        order: of this process.
        found: what was measured, memory included, since evaluation needs some.
        detector: trained necks and head.
        held_out: features to evaluate it on.
    """
    found |= {"strategy": order.strategy, "load": os.getloadavg()[0]}
    found |= {"steps": order.steps, "batch_size": order.batch_size, "seed": order.seed}
    found["order"] = order.words()
    if held_out is not None:
        summary = evaluate(held_out, detector, order.out / "held_out", nuscenes_root=order.nuscenes)
        found |= {"mAP": summary["mean_ap"], "NDS": summary["nd_score"]}
    (order.out / RESULT).write_text(json.dumps(found, indent=1))
