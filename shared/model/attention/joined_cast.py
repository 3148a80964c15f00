"""Weights of many layers in half precision, cast together.

Autocast casts each weight by itself, and each gradient back: two launches for every parameter.
"""

from typing import Any

import torch
from torch import Tensor, nn

from shared.model.attention.projected_attention import ProjectedAttention
from shared.process.autocast import joins_products, product_dtype


def call_with_joined_cast(module: nn.Module, example: Tensor, *args: Any) -> Any:
    """Call a module on arguments, with the weights of its products cast together if that helps.

    Args:
        module: all of whose linear layers and attentions compute in autocast's dtype.
        example: tensor on the device that computes.
        *args: of the module.
    """
    # In float16 some layers stay in float32, see `without_float16`.
    if not joins_products(example) or product_dtype(example) != torch.bfloat16:
        return module(*args)
    return torch.func.functional_call(module, joined_cast(module, torch.bfloat16), args)


def joined_cast(module: nn.Module, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the parameters of a module's linear layers and attentions in `dtype`, by name.

    They are views of one tensor; their gradients reach the parameters in their own dtype.
    """
    parameters = {
        f"{path}.{name}": parameter
        for path, child in module.named_modules()
        if isinstance(child, nn.Linear | ProjectedAttention)
        for name, parameter in child.named_parameters(recurse=False)
    }
    joined = torch.cat([parameter.flatten() for parameter in parameters.values()]).to(dtype)
    pieces = torch.split(joined, [parameter.numel() for parameter in parameters.values()])
    return {
        name: piece.view(parameter.shape)
        for (name, parameter), piece in zip(parameters.items(), pieces, strict=True)
    }
