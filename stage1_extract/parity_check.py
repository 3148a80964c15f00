"""The comparison behind `check-parity`: two feature sources, one detector, the same answer."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.batch import Batch, collate
from shared.config import Preset
from shared.features import FeatureSource, FrameFeatures
from shared.model.detector import CmtDetector
from shared.model.fresh import fresh_detector
from shared.targets import with_trainable_annotations
from stage1_extract.parity_legs import (
    SEED,
    SEEDED_HEAD,
    TRAINED_HEAD,
    ParityRow,
    Tolerances,
    compare_legs,
    run_leg,
)

BATCH_SIZES = (1, 2)

# Storage rounds to the nearest float16: half a step. The other half allows for a live value that
# another batch size or thread count moved; it is the only room the features get.
FEATURE_STEPS = 1.0
FLOAT16 = np.finfo(np.float16)


def check_parity(
    live: FeatureSource,
    cached: FeatureSource,
    *,
    samples: int,
    checkpoint: Path | None = None,
) -> list[ParityRow]:
    """Compare two sources of the same samples at batch size 1 and 2.

    Args:
        live: the backbones.
        cached: the store.
        samples: how many, spread evenly over the store.
        checkpoint: CMT checkpoint for necks and head; without one, seeded random weights.
    """
    preset = cached.preset
    detector = fresh_detector(preset, seed=SEED, checkpoint=checkpoint)
    allowed = SEEDED_HEAD if checkpoint is None else TRAINED_HEAD
    chosen = np.unique(np.linspace(0, len(cached.tokens) - 1, samples).round().astype(int))
    tokens = [cached.tokens[i] for i in chosen]
    rows: list[ParityRow] = []
    for batch_size in BATCH_SIZES:
        for start in range(0, len(tokens), batch_size):
            part = tokens[start : start + batch_size]
            if len(part) == batch_size:
                rows += _compare(detector, live.read(part), cached.read(part), allowed)
    return _worst(rows)


def feature_steps(live: NDArray[np.floating[Any]], cached: NDArray[np.floating[Any]]) -> float:
    """Return the largest distance of cached from live values, in float16 steps."""
    exact = live.astype(np.float64)
    _, exponent = np.frexp(np.maximum(np.abs(exact), FLOAT16.tiny))
    step = np.ldexp(1.0, exponent - 1 - FLOAT16.nmant)
    gap: NDArray[np.float64] = np.abs(exact - cached.astype(np.float64)) / step
    return float(gap.max()) if np.isfinite(gap).all() else float("nan")


def _compare(
    detector: CmtDetector,
    live: Sequence[FrameFeatures],
    cached: Sequence[FrameFeatures],
    allowed: Tolerances,
) -> list[ParityRow]:
    """Compare one batch."""
    preset = detector.preset
    size = len(live)
    rows = [
        ParityRow(
            quantity=spec.name,
            batch_size=size,
            difference=max(
                feature_steps(a.maps[spec.name], b.maps[spec.name])
                for a, b in zip(live, cached, strict=True)
            ),
            allowed=FEATURE_STEPS,
            unit="float16 steps",
        )
        for spec in preset.maps
    ]
    rows.append(
        ParityRow(
            quantity="geometry and annotations",
            batch_size=size,
            difference=float(sum(not _same_frame(a, b) for a, b in zip(live, cached, strict=True))),
            allowed=0.0,
            unit="frames that differ",
        )
    )
    one = run_leg(detector, _batch(live, preset), preset)
    other = run_leg(detector, _batch(cached, preset), preset, one)
    return rows + compare_legs(one, other, size, allowed)


def _same_frame(live: FrameFeatures, cached: FrameFeatures) -> bool:
    """Whether everything beside the maps is equal, bit for bit."""
    a, b = dataclasses.asdict(live.frame), dataclasses.asdict(cached.frame)
    a |= a.pop("annotations")
    b |= b.pop("annotations")
    return all(
        np.array_equal(a[key], b[key], equal_nan=isinstance(a[key], np.ndarray)) for key in a
    )


def _batch(frames: Sequence[FrameFeatures], preset: Preset) -> Batch:
    return collate([with_trainable_annotations(one, preset.grid) for one in frames])


def _worst(rows: list[ParityRow]) -> list[ParityRow]:
    """Keep the worst row of every quantity and batch size, in order of first appearance."""
    worst: dict[tuple[int, str], ParityRow] = {}
    for one in rows:
        key = (one.batch_size, one.quantity)
        if key not in worst or not one.difference <= worst[key].difference:
            worst[key] = one
    return list(worst.values())
