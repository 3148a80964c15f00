"""VoVNet V-99-eSE, the image backbone of CMT's large presets; mmdet has none.

A one-shot aggregation (OSA) block runs its convolutions in a chain, joins its input and all of
their outputs, and reduces the whole once. The names of the weights, slashes included, are those of
the official checkpoints.

B images, C channels, H W rows and columns.

Source: CMT, projects/mmdet3d_plugin/models/backbones/vovnet.py, spec "V-99-eSE" with
`out_features` stage4 and stage5. CMT does not use the depthwise and shallower specs.
"""

from collections import OrderedDict

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from shared.errors import ConfigError

LAYERS_PER_BLOCK = 5


class VoVNet99(nn.Module):
    """A stem at stride 4 and four stages at strides 4, 8, 16 and 32; the last two are returned.

    Args:
        base_channels: width of the stem; 64 in the published network. Must be even, since the
            convolutions of stage 3 are 2.5 times as wide.

    Raises:
        ConfigError: if a width would not be a whole number of channels.
    """

    def __init__(self, base_channels: int) -> None:
        super().__init__()
        if base_channels < 2 or base_channels % 2:
            raise ConfigError(
                f"base_channels {base_channels} of vovnet99 is not a positive even number; its "
                "stages are 2, 2.5, 3 and 3.5 times as wide; use an even number, e.g. 8 or 64"
            )
        base = base_channels
        self.stem = nn.Sequential(
            _convolution("stem_1", 3, base, stride=2)
            | _convolution("stem_2", base, base)
            | _convolution("stem_3", base, 2 * base, stride=2)
        )
        self.stage2 = _stage(2, blocks=1, inputs=2 * base, width=2 * base, outputs=4 * base)
        self.stage3 = _stage(3, blocks=3, inputs=4 * base, width=5 * base // 2, outputs=8 * base)
        self.stage4 = _stage(4, blocks=9, inputs=8 * base, width=3 * base, outputs=12 * base)
        self.stage5 = _stage(5, blocks=3, inputs=12 * base, width=7 * base // 2, outputs=16 * base)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the maps at stride 16 and 32.

        Args:
            images: (B, 3, height, width) float, normalised, BGR.

        Returns:
            (B, 12 * base_channels, height / 16, width / 16) and
            (B, 16 * base_channels, height / 32, width / 32), float; none is negative.
        """
        fine = self.stage4(self.stage3(self.stage2(self.stem(images))))  # (B, C, H, W)
        return fine, self.stage5(fine)


class OsaBlock(nn.Module):
    """One-shot aggregation with a gate per channel, and optionally its input added back.

    Args:
        name: e.g. "OSA3_2"; official weights repeat it inside the block.
        inputs, width, outputs: channels of the input, of each convolution, of the output.
        adds_input: whether the block's input is added to its output.
    """

    def __init__(
        self, name: str, *, inputs: int, width: int, outputs: int, adds_input: bool
    ) -> None:
        super().__init__()
        self.adds_input = adds_input
        sources = [inputs] + [width] * (LAYERS_PER_BLOCK - 1)
        self.layers = nn.ModuleList(
            nn.Sequential(_convolution(f"{name}_{i}", source, width))
            for i, source in enumerate(sources)
        )
        joined = inputs + LAYERS_PER_BLOCK * width
        self.concat = nn.Sequential(_convolution(f"{name}_concat", joined, outputs, kernel=1))
        # Upstream: a flag for the gate is passed around and never read; every block has a gate.
        self.ese = ChannelGate(outputs)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H, W)."""
        reduced: Tensor = self.ese(self.concat(self._join(features)))  # (B, outputs, H, W)
        return reduced + features if self.adds_input else reduced

    def _join(self, features: Tensor) -> Tensor:
        # A method of its own, so that the outputs are freed before the joined map is reduced.
        outputs = [features]
        for layer in self.layers:
            outputs.append(layer(outputs[-1]))
        return torch.cat(outputs, dim=1)  # (B, inputs + 5 * width, H, W)


class ChannelGate(nn.Module):
    """Effective squeeze-and-excitation (eSE): a factor per image and channel, from means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, kernel_size=1)

    def forward(self, features: Tensor) -> Tensor:
        """Scale (B, C, H, W) by factors in [0, 1]."""
        means = F.adaptive_avg_pool2d(features, 1)  # (B, C, 1, 1)
        # Upstream: not a sigmoid but this ramp from -3 to 3, "hsigmoid".
        return features * (F.relu6(self.fc(means) + 3.0) / 6.0)  # (B, C, H, W)


def _stage(number: int, *, blocks: int, inputs: int, width: int, outputs: int) -> nn.Sequential:
    stage = nn.Sequential()
    if number > 2:
        # Upstream: no padding, and ceil_mode, so that an even size becomes exactly its half.
        stage.add_module("Pooling", nn.MaxPool2d(kernel_size=3, stride=2, ceil_mode=True))
    for i in range(blocks):
        name = f"OSA{number}_{i + 1}"
        # Upstream: identity from the second block on; the first changes the number of channels.
        block = OsaBlock(name, inputs=inputs, width=width, outputs=outputs, adds_input=i > 0)
        stage.add_module(name, block)
        inputs = outputs
    return stage


def _convolution(
    name: str, inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1
) -> OrderedDict[str, nn.Module]:
    """Return convolution, BatchNorm and ReLU under their official names."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return OrderedDict(
        {
            f"{name}/conv": convolution,
            f"{name}/norm": nn.BatchNorm2d(outputs),
            f"{name}/relu": nn.ReLU(inplace=True),
        }
    )
