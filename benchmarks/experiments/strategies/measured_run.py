"""What the process of a strategy is told to run, and what it measures of itself."""

import argparse
import csv
import json
import os
import resource
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from shared.checkpoint.checkpoint_table import belongs
from shared.data.batch import Batch
from shared.data.feature_store import FeatureStore
from shared.digests import array_digest
from shared.model.detector import CmtDetector
from stage2_train.evaluation.detections import detect, write_results
from stage2_train.evaluation.official_metrics import official_metrics
from stage2_train.recipes.recipe import Recipe
from stage2_train.recipes.recipes import tiny_from_scratch
from stage2_train.run.run_files import LOG, TIMING
from stage2_train.training.assembly import FREEZING

RESULT = "strategy.json"
PIECES = ("data", "forward", "backward", "update")
WARM_UP = 0.2  # share of the steps, at the beginning, whose time does not count
BATCH_SIZE = 4  # of evaluation


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """A strategy to run.

    Args:
        strategy: name of its recipe.
        store: to train from, or whose samples and order to train on.
        nuscenes: root with tables and raw files.
        out: run folder.
        steps, batch_size, seed: of the run.
        checkpoint: that the store was made with; None is seeded backbones.
        start: run or checkpoint whose head it starts from; None starts from seeded weights.
        held_out: store to evaluate on.
        at_scratch_rates: use the learning rates and clipping of the recipe `tiny_from_scratch`.
    """

    strategy: str
    store: Path
    nuscenes: Path
    out: Path
    steps: int
    batch_size: int
    seed: int = 0
    checkpoint: Path | None
    start: Path | None
    held_out: Path | None
    at_scratch_rates: bool

    def words(self) -> list[str]:
        """Return the command line that `read` parses."""
        words = [self.strategy, self.store, self.nuscenes, self.out, self.steps, self.batch_size]
        return [
            *map(str, [*words, self.seed]),
            *(["--checkpoint", str(self.checkpoint)] if self.checkpoint else []),
            *(["--start", str(self.start)] if self.start else []),
            *(["--held-out", str(self.held_out)] if self.held_out else []),
            *(["--at-scratch-rates"] if self.at_scratch_rates else []),
        ]

    @classmethod
    def read(cls, argv: Sequence[str] | None = None) -> "Order":
        """Parse the command line of a strategy's process."""
        parser = argparse.ArgumentParser()
        parser.add_argument("strategy")
        for name in ("store", "nuscenes", "out"):
            parser.add_argument(name, type=Path)
        for name in ("steps", "batch_size", "seed"):
            parser.add_argument(name, type=int)
        parser.add_argument("--checkpoint", type=Path)
        parser.add_argument("--start", type=Path)
        parser.add_argument("--held-out", type=Path)
        parser.add_argument("--at-scratch-rates", action="store_true")
        return cls(**vars(parser.parse_args(argv)))

    def shortened(self, recipe: Recipe) -> Recipe:
        """Return the recipe with this length, batch size and seed, and with the requested rates."""
        short = replace(
            recipe,
            epochs=None,
            steps=self.steps,
            batch_size=self.batch_size,
            seed=self.seed,
            checkpoint_every=self.steps,
            keep_last=1,
        )
        return at_scratch_rates(short) if self.at_scratch_rates else short


def at_scratch_rates(recipe: Recipe) -> Recipe:
    """Return the recipe with rates that let it learn from scratch on little data.

    The rates of necks, AQR and backbones stay in proportion to the base rate, which is higher.
    """
    fast, rates = tiny_from_scratch(), dict(recipe.lr_multipliers)
    rates |= {key: rate for key, rate in fast.lr_multipliers if key in rates}
    return replace(
        recipe,
        learning_rate=fast.learning_rate,
        lr_multipliers=tuple(rates.items()),
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
    """The processor time of a piece of work, which other jobs hardly change, and its memory."""

    def __init__(self) -> None:
        self._began = time.process_time()

    def measured(self, steps: int) -> dict[str, float]:
        """Return processor seconds per step since this object was made, and the peak memory."""
        seconds = (time.process_time() - self._began) / steps
        return {"cpu_seconds_per_step": seconds, "peak_memory_mb": peak_memory_mb()}


def peak_memory_mb() -> float:
    """Return the peak memory of this process: allocated on the GPU, or resident without one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def measured(run: Path, *, before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, Any]:
    """Return what the folder of a finished run says.

    Args:
        run: its folder.
        before: digests of what it froze, at the start.
        after: the same at the end.
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


def held_out_scores(
    order: Order, held_out: FeatureStore, detector: CmtDetector, batches: Iterable[Batch]
) -> dict[str, float]:
    """Detect in held-out samples and score them with nuscenes-devkit.

    Args:
        order: of this process.
        held_out: store of those samples.
        detector: trained.
        batches: of all samples in the store, as the detector takes them.

    Returns:
        mAP and NDS.
    """
    held_out.require_complete()
    out = order.out / "held_out"
    out.mkdir(parents=True, exist_ok=True)
    file = out / "results_nusc.json"
    write_results(file, detect(detector, batches, held_out), held_out.preset)
    version = held_out.identity["dataset"]["version"]
    summary = official_metrics(file, order.nuscenes, version, held_out.tokens, out)
    return {"mAP": summary["mean_ap"], "NDS": summary["nd_score"]}


def write_result(order: Order, result: Mapping[str, Any]) -> None:
    """Write what was measured, with what was ordered and how busy the machine is."""
    about = {"strategy": order.strategy, "load": os.getloadavg()[0]}
    about |= {"steps": order.steps, "batch_size": order.batch_size, "seed": order.seed}
    about["order"] = order.words()
    (order.out / RESULT).write_text(json.dumps({**result, **about}, indent=1))
