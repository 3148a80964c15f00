"""The feed-forward half of a transformer layer, with the names of the official checkpoints.

B samples, Q queries, D width.

Source: CMT, cmt_transformer.py; mmcv, transformer.py.
"""

from torch import Tensor, nn
from torch.nn import functional


class FeedForward(nn.Module):
    """Two linear layers with a residual; upstream drops nothing in the decoder's."""

    def __init__(self, width: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.layers = nn.Sequential(
            nn.Sequential(xavier_linear(width, hidden), nn.ReLU(inplace=True)),
            xavier_linear(hidden, width),
        )

    def forward(self, content: Tensor) -> Tensor:
        """Return (B, Q, D)."""
        thought = functional.dropout(self.layers(content), self.dropout, self.training)
        return content + thought


def xavier_linear(source: int, target: int) -> nn.Linear:
    """Return a linear layer initialised as `CmtTransformer.init_weights` does."""
    linear = nn.Linear(source, target)
    nn.init.xavier_uniform_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
