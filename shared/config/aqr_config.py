"""What the adaptive query routing of a run looks like; a recipe holds one, or none (plain CMT)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from shared.config.config_json import from_json
from shared.errors import ConfigError

MOST_SCALE = 1000.0  # a bias of 20 leaves e^-20 to the tokens without it
CAMERA_REACH_PERCENT = 7  # cells to each side, of the columns of the camera map

Implementation = Literal["auto", "kernels", "pieces", "dense"]
Profile = Literal["uniform", "gaussian"]
Reach = Literal["windows", "sensor"]
FORMER_IMPLEMENTATIONS = ("masked", "flex")  # until November 2026


@dataclass(frozen=True, kw_only=True, slots=True)
class AqrConfig:
    """Adaptive query routing (AQR).

    Args:
        effect: "bias" adds to the decoder's attention scores; "modulation" is the older variant,
            which scales the features around the queries.
        attention: how attention with the bias, and the generator's attention to the windows, are
            computed; all ways give the same up to rounding. "kernels" are the Triton kernels for
            CUDA, "pieces" takes some queries at a time on any device, "dense" is the reference,
            and "auto" takes the kernels where they run and pieces elsewhere (a log message says so
            on a GPU).
        bev_window: BEV cells along a side of the window, odd.
        camera_window: pixels of the camera map along a side of the window, odd; None is the
            published size for the map: 15 where it is 100 columns wide, 9 at 50 columns.
        profile: "uniform" adds the same bias to all tokens of a window, "gaussian" multiplies it
            by exp(-d^2 / (2 sigma_cells^2)) at a distance of d cells from the window's centre;
            "bias" only.
        sigma_cells: standard deviation of that Gaussian; the public fork's is 2.
        reach: "windows" adds the bias inside the windows only, "sensor" to all tokens of the
            sensor, which can silence it for a query; "bias" only.
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
    attention: Implementation = "auto"
    bev_window: int = 5
    camera_window: int | None = None
    profile: Profile = "uniform"
    sigma_cells: float = 2.0
    reach: Reach = "windows"
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
        if self.heads < 1 or self.ffn_width < 1 or not 0.0 <= self.dropout < 1.0:
            raise ConfigError(
                f"heads {self.heads} and ffn_width {self.ffn_width} must be at least 1, and "
                f"dropout {self.dropout} at least 0 and below 1"
            )
        if not 0.0 <= self.min_scale < self.initial_scale < self.max_scale <= MOST_SCALE:
            raise ConfigError(
                f"initial_scale {self.initial_scale} must lie between min_scale {self.min_scale} "
                f"and max_scale {self.max_scale}, and at neither; both are 0 to {MOST_SCALE:g}"
            )
        if not 0.0 <= self.residual <= 1.0 or not self.splat_cells > 0.0:
            raise ConfigError(
                f"residual {self.residual} must be 0 to 1 and splat_cells {self.splat_cells} "
                "above 0"
            )
        self._check_attention()

    def _check_attention(self) -> None:
        if self.attention not in get_args(Implementation):
            hint = "; it is gone, choose 'auto'" if self.attention in FORMER_IMPLEMENTATIONS else ""
            raise ConfigError(
                f"attention {self.attention!r} is none of {get_args(Implementation)}{hint}"
            )
        if not self.sigma_cells > 0.0:
            raise ConfigError(f"sigma_cells {self.sigma_cells} must be above 0")
        shaped = (self.profile, self.reach) != ("uniform", "windows")
        if self.effect == "modulation" and shaped:
            raise ConfigError(
                f"profile {self.profile!r} and reach {self.reach!r} shape a bias, and effect "
                "'modulation' has none; leave them at 'uniform' and 'windows'"
            )
        if self.profile == "gaussian" and self.reach == "sensor":
            raise ConfigError(
                "profile 'gaussian' is a shape inside windows, reach 'sensor' has no windows; "
                "choose one of them"
            )

    def camera_side(self, columns: int) -> int:
        """Return the side of the camera window on a map of that many columns."""
        if self.camera_window is not None:
            return self.camera_window
        return 2 * -(-CAMERA_REACH_PERCENT * columns // 100) + 1

    @property
    def bias_sigma_cells(self) -> float | None:
        """The standard deviation of a Gaussian profile, None for a uniform one."""
        return self.sigma_cells if self.profile == "gaussian" else None


def aqr_config_from_json(record: Mapping[str, Any]) -> AqrConfig:
    """Rebuild the config of a checkpoint.

    Older checkpoints are read, too, where that is safe: a field that did not exist then (profile,
    sigma_cells, reach) takes its default, which is what the code did then; an `attention` that is
    gone was a way to compute the same numbers, so it becomes "auto".

    Raises:
        ConfigError: naming the fields that are unknown or of the wrong type.
    """
    fields = dict(record)
    if fields.get("attention") in FORMER_IMPLEMENTATIONS:
        fields["attention"] = "auto"
    return from_json(AqrConfig, fields)
