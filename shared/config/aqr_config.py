"""What the adaptive query routing of a run looks like; a recipe holds one, or none (plain CMT)."""

from dataclasses import dataclass
from typing import Literal

from shared.errors import ConfigError

CAMERA_REACH_PERCENT = 7  # cells to each side, of the columns of the camera map


@dataclass(frozen=True, kw_only=True, slots=True)
class AqrConfig:
    """Adaptive query routing (AQR).

    Args:
        effect: "bias" adds to the decoder's attention scores inside a query's windows; "modulation"
            is the older variant, which scales the features around the queries.
        attention: how the biased attention is computed: "dense" (reference), "masked" (flash
            kernels with a mask, in pieces), "flex" (FlexAttention, CUDA only), or "auto": flex on
            CUDA if it runs there (the log says if not), masked elsewhere.
        bev_window: BEV cells along a side of the window, odd.
        camera_window: pixels of the camera map along a side of the window, odd; None is the
            published size for the map: 15 where it is 100 columns wide, 9 at 50 columns.
        heads, ffn_width, dropout: of the weight generator; dropout is of its residual branches.
        start: "neutral" starts with weights of exactly 0, so that a pretrained detector gives what
            it gave before; "upstream" starts at tanh(1.5) = 0.91 for every query.
        initial_scale, min_scale, max_scale: the bias is scale x weight, and the scale stays inside
            these bounds; "bias" only.
        residual: share of a feature that no weight can take away; "modulation" only.
        splat_cells: standard deviation of the Gaussian that spreads a query's weight, in cells of
            the map; "modulation" only.
    """

    effect: Literal["bias", "modulation"] = "bias"
    attention: Literal["auto", "dense", "masked", "flex"] = "auto"
    bev_window: int = 5
    camera_window: int | None = None
    heads: int = 4
    ffn_width: int = 1024
    dropout: float = 0.1
    start: Literal["neutral", "upstream"] = "neutral"
    initial_scale: float = 2.5
    min_scale: float = 0.5
    max_scale: float = 5.0
    residual: float = 0.7
    splat_cells: float = 1.0

    def __post_init__(self) -> None:
        for name, side in (("bev", self.bev_window), ("camera", self.camera_window)):
            if side is not None and (side < 1 or side % 2 == 0):
                # Upstream: a window of 8 reaches 4 cells to each side, which makes 9 x 9.
                raise ConfigError(
                    f"{name}_window {side} has no cell in its middle; pick an odd number"
                )
        if not self.min_scale < self.initial_scale < self.max_scale:
            raise ConfigError(
                f"initial_scale {self.initial_scale} must lie between min_scale {self.min_scale} "
                f"and max_scale {self.max_scale}, and at neither"
            )
        if not 0.0 <= self.residual <= 1.0 or not self.splat_cells > 0.0:
            raise ConfigError(
                f"residual {self.residual} must be 0 to 1 and splat_cells {self.splat_cells} "
                "above 0"
            )

    def camera_side(self, columns: int) -> int:
        """Return the side of the camera window on a map of that many columns."""
        if self.camera_window is not None:
            return self.camera_window
        return 2 * -(-CAMERA_REACH_PERCENT * columns // 100) + 1
