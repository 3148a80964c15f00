"""How far each query trusts the LiDAR and the cameras, judged by what lies around it.

B samples, Q queries, N memory tokens, D width.

Source: MoME, multi_expert.py, and the AQR fork of CMT, aqr_weight_generator.py; its key names.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared.config.aqr_config import AqrConfig
from shared.model.attention.feed_forward import FeedForward
from shared.model.attention.projected_attention import ProjectedAttention
from shared.model.attention.window_attention import WindowAttention
from shared.model.attention.windows.local_windows import LocalWindows

UPSTREAM_BIAS = 1.5  # its weights start at tanh(1.5) = 0.91


class Look(nn.Module):
    """The attention of an encoder layer, under its official key (`attn`)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = WindowAttention(width, heads)


class EncoderLayer(nn.Module):
    """Attention to the windows and a feed-forward part, each followed by its norm.

    Upstream also drops attention weights; here dropout is of the two residual branches only.
    """

    def __init__(self, width: int, config: AqrConfig) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.attentions = nn.ModuleList([Look(width, config.heads)])
        self.ffns = nn.ModuleList([FeedForward(width, config.ffn_width, config.dropout)])
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))

    def forward(self, seen: Tensor) -> Tensor:
        """Return (B, Q, D) of what the attention saw; the queries start empty."""
        content = self.norms[0](functional.dropout(seen, self.dropout, self.training))
        refined: Tensor = self.norms[1](self.ffns[0](content))
        return refined


class AqrWeightGenerator(nn.Module):
    """Give every query a weight for the LiDAR and one for the cameras.

    Args:
        width: D.
        config: sizes, start, and how attention is computed.
    """

    def __init__(self, width: int, config: AqrConfig) -> None:
        super().__init__()
        self.encoder = nn.ModuleDict(
            {
                "layers": nn.ModuleList([EncoderLayer(width, config)]),
                "post_norm": nn.LayerNorm(width),
            }
        )
        self.implementation = config.attention
        self.weight_predictor = nn.Linear(width, 2)
        # Upstream: both are added to the queries, where their sum does not tell sensors apart.
        self.bev_type_embed = nn.Parameter(torch.randn(width))
        self.rv_type_embed = nn.Parameter(torch.randn(width))
        if config.start == "neutral":
            nn.init.zeros_(self.weight_predictor.weight)
            nn.init.zeros_(self.weight_predictor.bias)
        else:
            nn.init.xavier_uniform_(self.weight_predictor.weight)
            nn.init.constant_(self.weight_predictor.bias, UPSTREAM_BIAS)

    def forward(
        self, positions: Tensor, keys: Tensor, values: Tensor, windows: LocalWindows
    ) -> Tensor:
        """Weigh the sensors.

        Args:
            positions: (B, Q, D), where the queries are.
            keys: (B, N, D) memory plus its positions.
            values: (B, N, D) memory.
            windows: what each query sees.

        Returns:
            (B, Q, 2) float32 in -1..1: LiDAR, cameras; exactly 0 for a sensor with no token in the
            query's windows.
        """
        # In float32 even under autocast: a weight becomes a bias on scores in every decoder layer.
        with torch.autocast(positions.device.type, enabled=False):
            types = torch.stack([self.bev_type_embed, self.rv_type_embed])
            seen = self.attention.look(
                positions.to(types), keys, values, types, windows, self.implementation
            )
            return self.weigh(seen, windows)

    @property
    def attention(self) -> WindowAttention:
        """The attention of the only layer, also used by its dense twin."""
        attention: WindowAttention = self._layer.attentions[0].attn
        return attention

    def weigh(self, seen: Tensor, windows: LocalWindows) -> Tensor:
        """Return the weights (B, Q, 2) of what the attention saw, (B, Q, D)."""
        refined = self.encoder["post_norm"](self._layer(seen))
        weights: Tensor = self.weight_predictor(refined).tanh() * windows.nearby
        return weights

    @property
    def _layer(self) -> Any:
        return self.encoder["layers"][0]  # type: ignore[index]


def dense_look(
    generator: AqrWeightGenerator,
    positions: Tensor,
    keys: Tensor,
    values: Tensor,
    windows: LocalWindows,
) -> Tensor:
    """Return what `generator.attention` sees, by masking attention to all tokens: its twin.

    Args: as for `AqrWeightGenerator.forward`; a query without any token sees everything.
    """
    types = torch.stack([generator.bev_type_embed, generator.rv_type_embed])
    bev_tokens = windows.cells.layout.bev_tokens
    typed = torch.cat(
        [types[:1].expand(bev_tokens, -1), types[1:].expand(keys.shape[1] - bev_tokens, -1)]
    )
    allowed = windows.covered | ~windows.covered.any(dim=-1, keepdim=True)  # (B, Q, N)
    return ProjectedAttention.forward(
        generator.attention, positions, keys + typed, values + typed, mask=allowed.unsqueeze(1)
    )
