"""The comparison behind `check-parity`: two feature sources, one detector, the same results."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.config.preset import Preset
from shared.data.batch import Batch, collate
from shared.data.features import FeatureSource, FrameFeatures, MapValues, QuantisedMap, as_floats
from shared.data.targets import with_trainable_annotations
from shared.model.detector import CmtDetector
from shared.model.initial_detector import aqr_config_of, fresh_detector
from stage1_extract.parity.parity_legs import SEED, ParityRow, compare_legs, run_leg
from stage1_extract.parity.parity_tolerances import FEATURE_STEPS, QUANTISED_STEPS, tolerances

BATCH_SIZES = (1, 2)
FLOAT16 = np.finfo(np.float16)


def compare_sources(
    live: FeatureSource,
    cached: FeatureSource,
    *,
    samples: int,
    variants: int = 1,
    checkpoint: Path | None = None,
) -> list[ParityRow]:
    """Compare two sources of the same samples at batch size 1 and 2.

    Args:
        live: the backbones.
        cached: the store.
        samples: how many to compare, spread evenly over the store.
        variants: how many the store has; they alternate from batch to batch.
        checkpoint: for necks, head and AQR, if it has AQR; without one, seeded random weights.
    """
    preset = cached.preset
    aqr = None if checkpoint is None else aqr_config_of(checkpoint)
    detector = fresh_detector(preset, cached.cut, seed=SEED, checkpoint=checkpoint, aqr=aqr)
    chosen = np.unique(np.linspace(0, len(cached.tokens) - 1, samples).round().astype(int))
    tokens = [cached.tokens[i] for i in chosen]
    rows: list[ParityRow] = []
    for batch_size in BATCH_SIZES:
        for start in range(0, len(tokens), batch_size):
            batch, variant = tokens[start : start + batch_size], start // batch_size % variants
            if len(batch) == batch_size:
                rows += _compare(
                    detector,
                    live.read(batch, variant),
                    cached.read(batch, variant),
                    is_trained=checkpoint is not None,
                )
    return _worst(rows)


def float16_step(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return the distance between adjacent float16 numbers at each value."""
    _, exponent = np.frexp(np.maximum(np.abs(values.astype(np.float64)), FLOAT16.tiny))
    step: NDArray[np.float64] = np.ldexp(1.0, exponent - 1 - FLOAT16.nmant)
    return step


def feature_steps(live: NDArray[np.floating[Any]], cached: NDArray[np.floating[Any]]) -> float:
    """Return the largest distance between cached and live values, in float16 steps."""
    gap = np.abs(live.astype(np.float64) - cached.astype(np.float64)) / float16_step(live)
    return float(gap.max()) if np.isfinite(gap).all() else float("nan")


def quantised_steps(live: NDArray[np.floating[Any]], cached: QuantisedMap) -> float:
    """Return the largest distance in 8-bit steps, beyond the allowed float16 steps."""
    gap = np.abs(live.astype(np.float64) - cached.dequantised())
    gap = np.maximum(gap - FEATURE_STEPS * float16_step(live), 0.0)  # NaN stays NaN
    # A constant plane has steps of size 0: there, no difference is allowed.
    step = np.maximum(cached.scale, np.finfo(np.float32).tiny).astype(np.float64)[..., None, None]
    return float((gap / step).max())


def _compare(
    detector: CmtDetector,
    live: Sequence[FrameFeatures],
    cached: Sequence[FrameFeatures],
    *,
    is_trained: bool,
) -> list[ParityRow]:
    """Compare one batch."""
    preset = detector.preset
    size = len(live)
    rows = [
        _compare_maps(name, as_floats(values), b.maps[name], size)
        for a, b in zip(live, cached, strict=True)
        for name, values in a.maps.items()
    ]
    is_quantised = any(
        isinstance(values, QuantisedMap) for b in cached for values in b.maps.values()
    )
    allowed = tolerances(is_trained=is_trained, is_quantised=is_quantised)
    rows.append(
        ParityRow(
            quantity="geometry and annotations",
            batch_size=size,
            difference=float(sum(not _same_frame(a, b) for a, b in zip(live, cached, strict=True))),
            allowed=0.0,
            unit="frames that differ",
        )
    )
    live_leg = run_leg(detector, _batch(live, preset), preset)
    cached_leg = run_leg(detector, _batch(cached, preset), preset, live_leg)
    return rows + compare_legs(live_leg, cached_leg, size, allowed)


def _compare_maps(
    name: str, live: NDArray[np.floating[Any]], cached: MapValues, size: int
) -> ParityRow:
    """Compare one feature map of one sample."""
    if isinstance(cached, QuantisedMap):
        return ParityRow(
            quantity=name,
            batch_size=size,
            difference=quantised_steps(live, cached),
            allowed=QUANTISED_STEPS,
            unit="8-bit steps, beyond one of float16",
        )
    return ParityRow(
        quantity=name,
        batch_size=size,
        difference=feature_steps(live, cached),
        allowed=FEATURE_STEPS,
        unit="float16 steps",
    )


def _same_frame(live: FrameFeatures, cached: FrameFeatures) -> bool:
    """Return whether everything except the maps is equal, bit for bit."""
    a, b = dataclasses.asdict(live.frame), dataclasses.asdict(cached.frame)
    a |= a.pop("annotations")
    b |= b.pop("annotations")
    return all(
        np.array_equal(a[key], b[key], equal_nan=isinstance(a[key], np.ndarray)) for key in a
    )


def _batch(frames: Sequence[FrameFeatures], preset: Preset) -> Batch:
    batch = collate([with_trainable_annotations(frame, preset.grid) for frame in frames])
    return batch.to("cpu")


def _worst(rows: list[ParityRow]) -> list[ParityRow]:
    """Keep the worst row of every quantity and batch size, in order of first appearance."""
    worst: dict[tuple[int, str], ParityRow] = {}
    for row in rows:
        key = (row.batch_size, row.quantity)
        if key not in worst or not row.difference <= worst[key].difference:
            worst[key] = row
    return list(worst.values())
