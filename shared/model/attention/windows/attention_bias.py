"""A bias on attention scores: two numbers per query, one for each sensor, and where they are added.

B samples, Q queries, N memory tokens, W tokens of a query's windows.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from shared.config.aqr_config import Implementation, Reach
from shared.model.attention.windows.local_windows import LocalWindows
from shared.model.attention.windows.tile_schedule import WindowTiles


@dataclass(frozen=True, kw_only=True)
class AttentionBias:
    """What is added to the scores of a query.

    Args:
        per_sensor: (B, Q, 2) float32, for the tokens of the LiDAR and of the cameras.
        windows: around the queries.
        implementation: of the attention, see `AqrConfig.attention`.
        sigma_cells: None adds the same number to all tokens of a window; otherwise the number is
            multiplied by a Gaussian of that standard deviation around the window's centre.
        reach: "windows" adds only inside the windows, "sensor" to all tokens of the sensor.
    """

    per_sensor: Tensor
    windows: LocalWindows
    implementation: Implementation = "auto"
    sigma_cells: float | None = None
    reach: Reach = "windows"

    def in_windows(self) -> Tensor:
        """Return (B, Q, W): what is added to each token of the windows, 0 where there is none."""
        added = self.windows.spread(self.per_sensor)
        return (
            added if self.sigma_cells is None else added * self.windows.gaussian(self.sigma_cells)
        )

    def dense(self) -> Tensor:
        """Return (B, Q, N): what is added to every score."""
        if self.reach == "windows":
            return self.windows.over_memory(self.in_windows())
        layout = self.windows.cells.layout
        is_camera = torch.arange(layout.tokens, device=self.per_sensor.device) >= layout.bev_tokens
        return self.per_sensor[..., is_camera.long()]

    def of_queries(self, queries: slice) -> "AttentionBias":
        """Return the bias of some of the queries."""
        per_sensor = self.per_sensor[:, queries]
        return replace(self, per_sensor=per_sensor, windows=self.windows.of_queries(queries))

    @cached_property
    def tiles(self) -> WindowTiles:
        """What the kernels loop over: made once for all layers of a batch."""
        return WindowTiles(self.windows)
