"""How much a store may differ from the live backbones: a factor of the noise that the run measures.

Noise is what the live side shows of itself: live maps computed at another batch size and rounded as
the store rounds them, against live maps; and what follows from these two in the same detector. The
store takes no part in it, so no fault of a store can raise what it is allowed.
"""

import math
from dataclasses import dataclass

import numpy as np

# In steps. If live maps are further from themselves in the mean, that is no rounding: the backbones
# depend on the batch, and nothing can be said about a store.
MOST_NOISE = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """A kind of difference, and what is allowed of it.

    Args:
        unit: of the difference.
        factor: times the measured noise.
        floor: allowed in any case.
        pool: quantities of one pool share their noise; "" for noise of the quantity's own.
        most_noise: more than this is a fault of the live side.
        is_bits: whether nothing is allowed where the store must be equal bit for bit.
    """

    unit: str
    factor: float
    floor: float
    pool: str = ""
    most_noise: float = math.inf
    is_bits: bool = False

    def allowed(self, noise: float) -> float:
        """Return the tolerance; NaN if the noise is NaN, which nothing passes."""
        return float(np.maximum(self.factor * noise, self.floor))


# A step, because where one side rounds up and the other down they are a step apart. The largest of
# millions of values varies little from sample to sample.
LARGEST = Measure(unit="float16 steps", factor=3.0, floor=1.0)
# A mean over so many values hardly varies at all: this is what finds a small fault of a whole map.
# Half a step is the most that rounding to the nearest costs, were it to cost that everywhere.
MEAN = Measure(unit="float16 steps", factor=2.0, floor=0.5, most_noise=MOST_NOISE)
# Shown only, unless bit-equality is asked: the two above say how far the values are.
DIFFERING = Measure(unit="share of values", factor=0.0, floor=1.0, is_bits=True)
# A composed matrix has gone through an inverse and a product more than a live one, in float64. The
# largest difference in 20,000 matrices of real frames was 1.3e-15.
COMPOSED = Measure(unit="of largest", factor=0.0, floor=1e-12)
FRAMES = Measure(unit="frames that differ", factor=0.0, floor=0.0)

# What follows from the maps is the largest of a few hundred numbers in a few samples. In 74 honest
# runs (`benchmarks.validation.parity_margins`) the store's share was up to 4.4 times the noise.
DOWNSTREAM = 10.0
# These jump: a ReLU that changes sides moves a gradient by 1e-2 in some samples only, and if the
# noise shows no such sample, the store's share is up to 9 times the noise (boxes: 6 times).
JUMPING = 30.0

# Floors: what the order of a float32 sum alone may change.
OUTPUT = Measure(unit="of largest", factor=DOWNSTREAM, floor=1e-5, pool="outputs")
LOSS = Measure(unit="of value", factor=DOWNSTREAM, floor=1e-5, pool="losses")
GRADIENT = Measure(unit="of norm", factor=JUMPING, floor=1e-4, pool="gradients")
BOX = Measure(unit="m, rad or m/s", factor=JUMPING, floor=1e-3)
SCORE = Measure(unit="score", factor=DOWNSTREAM, floor=1e-5)
# Floors of what is counted: similar queries swap boxes at no cost, a slope of nearly zero has
# either sign, a box at the limit of their number is in or out; noise may by chance show none.
ASSIGNMENT = Measure(unit="of cost", factor=DOWNSTREAM, floor=1e-3)
SLOPES = Measure(unit="share that differs", factor=DOWNSTREAM, floor=2e-3)
UNPAIRED = Measure(unit="share of boxes", factor=DOWNSTREAM, floor=0.02)


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """What was measured of one quantity.

    Args:
        quantity: what was compared, e.g. "output velocity".
        measure: how.
        value: in the measure's unit; NaN if there is a NaN.
    """

    quantity: str
    measure: Measure
    value: float
