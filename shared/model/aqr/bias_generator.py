"""From sensor weights to a bias on attention scores: scale x weight, added near the query.

B samples, Q queries.
"""

import math

import torch
from torch import Tensor, nn

from shared.config.aqr_config import AqrConfig
from shared.errors import ConfigError
from shared.model.attention.windows.attention_bias import AttentionBias
from shared.model.attention.windows.local_windows import LocalWindows


class AttentionBiasGenerator(nn.Module):
    """Scale weights to biases, with a learnt scale that stays inside its bounds.

    The parameter is the logit of the scale's place between the bounds: at a bound, a clamp would
    cut off the gradient for good, while weight decay would keep pushing the parameter outwards.

    Args:
        config: bounds and start of the scale, profile and reach of the bias.
    """

    def __init__(self, config: AqrConfig) -> None:
        super().__init__()
        self.low, self.high = config.min_scale, config.max_scale
        self.config = config
        self.bias_scale_logit = nn.Parameter(torch.zeros(()))
        self.start_at(config.initial_scale)

    @property
    def scale(self) -> Tensor:
        """The scale, a scalar between the bounds."""
        return self.low + (self.high - self.low) * self.bias_scale_logit.sigmoid()

    @torch.no_grad()
    def start_at(self, scale: float) -> None:
        """Set the scale.

        Raises:
            ConfigError: if it is not between the bounds.
        """
        if not self.low < scale < self.high:
            raise ConfigError(
                f"a scale of {scale:.4g} is not between min_scale {self.low:g} and max_scale "
                f"{self.high:g}; choose bounds around it"
            )
        place = (scale - self.low) / (self.high - self.low)
        self.bias_scale_logit.fill_(math.log(place / (1.0 - place)))

    def forward(self, weights: Tensor, windows: LocalWindows) -> AttentionBias:
        """Return the bias of (B, Q, 2) weights."""
        return AttentionBias(
            per_sensor=self.scale * weights,
            windows=windows,
            implementation=self.config.attention,
            sigma_cells=self.config.bias_sigma_cells,
            reach=self.config.reach,
        )
