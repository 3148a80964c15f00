"""A bias on attention scores: one number per query and sensor, inside the query's windows.

B samples, Q queries.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from shared.model.attention.windows import LocalWindows

Implementation = Literal["auto", "dense", "masked", "flex"]


@dataclass(frozen=True, kw_only=True, slots=True)
class AttentionBias:
    """A bias that is constant inside each of a query's two windows.

    Args:
        per_sensor: (B, Q, 2) float32, added to the scores of the LiDAR's and the cameras' tokens in
            the windows.
        windows: which tokens these are.
        implementation: of the attention, see `AqrConfig.attention`.
    """

    per_sensor: Tensor
    windows: LocalWindows
    implementation: Implementation
