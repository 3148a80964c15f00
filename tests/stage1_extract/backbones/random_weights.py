"""Random weights for modules of mm, as the comparisons with them need."""

import torch
from torch import nn


def randomise(module: nn.Module) -> None:
    """Overwrite weights and BatchNorm statistics so that activations stay of order one."""
    random = torch.Generator().manual_seed(0)
    for name, tensor in module.state_dict().items():
        if tensor.dim() > 1:
            fan_in = tensor[0].numel()
            tensor.copy_(torch.randn(tensor.shape, generator=random) * (2 / fan_in) ** 0.5)
        elif name.endswith(("weight", "running_var")):
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=random))
        elif tensor.is_floating_point():
            tensor.copy_(0.1 * torch.randn(tensor.shape, generator=random))
