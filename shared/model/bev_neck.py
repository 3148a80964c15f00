"""SECONDFPN: upsamples the BEV maps to the finest resolution and stacks their channels.

B samples, C channels, Y X BEV rows and columns.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

NORM_EPS = 1e-3  # mmdet3d's setting for everything between voxels and head
NORM_MOMENTUM = 0.01


class BevNeck(nn.Module):
    """One upsampling branch per BEV map, concatenated.

    Args:
        in_channels: channels of the maps, finest first.
        out_channels: channels of each branch.
        strides: upsampling factor of each branch.

    Source:
        mmdet3d, second_fpn.py `SECONDFPN` with `use_conv_for_no_stride=True`.
    """

    def __init__(
        self, in_channels: Sequence[int], out_channels: Sequence[int], strides: Sequence[int]
    ) -> None:
        super().__init__()
        self.deblocks = nn.ModuleList(
            nn.Sequential(
                _resample(source, target, stride),
                nn.BatchNorm2d(target, eps=NORM_EPS, momentum=NORM_MOMENTUM),
                nn.ReLU(inplace=True),
            )
            for source, target, stride in zip(in_channels, out_channels, strides, strict=True)
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return (B, sum of `out_channels`, Y, X) from a (B, C, Y, X) map per level."""
        branches = [block(level) for block, level in zip(self.deblocks, maps, strict=True)]
        return torch.cat(branches, dim=1)  # (B, C, Y, X)


def _resample(source: int, target: int, stride: int) -> nn.Module:
    """Return a learnt upsampling by `stride`; 1 keeps the resolution."""
    if stride == 1:
        return nn.Conv2d(source, target, kernel_size=1, bias=False)
    upsample = nn.ConvTranspose2d(source, target, kernel_size=stride, stride=stride, bias=False)
    nn.init.kaiming_normal_(upsample.weight, mode="fan_out", nonlinearity="relu")
    return upsample
