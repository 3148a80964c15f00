"""How much a store may differ from the live backbones: features by rounding, the rest as measured.

Downstream tolerances are about three times the largest value measured (docs/parity.md, and
docs/store.md for quantised stores).
"""

from dataclasses import dataclass

# Storage rounds to the nearest float16: half a step. The other half allows for a live value that a
# different batch size or thread count has changed; features are allowed no more than that.
FEATURE_STEPS = 1.0
# A quantised value is half an 8-bit step off, beyond what FEATURE_STEPS allows its float16 value;
# the small rest is for the float32 arithmetic, which may round up to 255 steps.
QUANTISED_STEPS = 0.5 * (1 + 2**-10)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tolerances:
    """What the rounding of every feature may do downstream.

    Args:
        output: largest difference of a branch, over its largest magnitude.
        loss: relative.
        gradient: norm of the difference over the norm, per module.
        box: metres, radians or metres per second.
        score: of a detection.
        assignment: how much more the cached leg's own assignment costs, at the live leg's costs,
            than the cheapest; similar queries swap boxes at no cost.
        slopes: share of the losses' slopes that differ.
    """

    output: float
    loss: float
    gradient: float
    box: float
    score: float
    assignment: float
    slopes: float


SEEDED_HEAD = Tolerances(
    output=1e-3, loss=5e-4, gradient=3e-2, box=0.02, score=5e-4, assignment=1e-3, slopes=2e-3
)
# Trained attention is sharp, and sharp attention amplifies rounding.
TRAINED_HEAD = Tolerances(
    output=5e-3, loss=5e-4, gradient=0.15, box=0.15, score=2e-3, assignment=1e-3, slopes=5e-3
)
# Maps in 8 bit. Wide, because the effect is large: such a store is guarded by the half step.
SEEDED_HEAD_QUANTISED = Tolerances(
    output=0.03, loss=0.025, gradient=0.13, box=1.4, score=2e-3, assignment=3e-3, slopes=2e-3
)
TRAINED_HEAD_QUANTISED = Tolerances(
    output=0.13, loss=0.025, gradient=0.45, box=1.4, score=0.04, assignment=3e-3, slopes=7e-3
)


def tolerances(*, is_trained: bool, is_quantised: bool) -> Tolerances:
    """Return the tolerances for a trained or a seeded head, and for a kind of store."""
    if is_quantised:
        return TRAINED_HEAD_QUANTISED if is_trained else SEEDED_HEAD_QUANTISED
    return TRAINED_HEAD if is_trained else SEEDED_HEAD
