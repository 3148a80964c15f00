"""CPFPN: brings the camera maps to one width and adds coarse context to the fine map.

B images (samples times views), C channels, H W feature rows and columns.
"""

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional


class CameraNeck(nn.Module):
    """A feature pyramid that smooths only its finest level.

    Args:
        in_channels: channels of the backbone's maps, finest first.
        width: D, channels of every output.

    Source:
        CMT, cp_fpn.py `CPFPN`, without the extra levels and norms that no CMT config uses.
    """

    def __init__(self, in_channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.lateral_convs = nn.ModuleList(_named_conv(c, width, kernel=1) for c in in_channels)
        self.fpn_convs = nn.ModuleList([_named_conv(width, width, kernel=3)])

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Merge the maps from coarse to fine.

        Args:
            maps: a (B, C, H, W) per level, finest first.

        Returns:
            A (B, D, H, W) per level. The head reads only the finest; the others have no convolution
            after the merge.
        """
        levels: list[Tensor] = [
            lateral(level) for lateral, level in zip(self.lateral_convs, maps, strict=True)
        ]
        for fine in range(len(levels) - 2, -1, -1):
            size = levels[fine].shape[-2:]
            levels[fine] = levels[fine] + functional.interpolate(
                levels[fine + 1], size=size, mode="nearest"
            )
        # Upstream: only the finest level is smoothed; the head reads no other.
        return self.fpn_convs[0](levels[0]), *levels[1:]


def _named_conv(in_channels: int, out_channels: int, *, kernel: int) -> nn.Sequential:
    """Return a convolution whose state-dict key is `conv`, as mmcv's ConvModule has it."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2)
    nn.init.xavier_uniform_(conv.weight)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return nn.Sequential(OrderedDict(conv=conv))
