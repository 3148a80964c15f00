"""What a device and its autocast decide for a model: dtypes of products, and which are joined."""

import warnings
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

JOINING_DEVICES = ("cuda",)


def joins_products(tensor: Tensor) -> bool:
    """Return whether products that share an operand are computed as one on the tensor's device.

    At small batches a GPU waits for launches, and joined products need fewer of them. On a CPU they
    gain nothing, and would change the last bits of float32 training.
    """
    return tensor.device.type in JOINING_DEVICES


def product_dtype(tensor: Tensor) -> torch.dtype:
    """Return the dtype that a matrix product with the tensor is computed in."""
    kind = tensor.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else tensor.dtype


def without_float16(device: torch.device) -> AbstractContextManager[None]:
    """Compute in float32 where autocast would compute in float16.

    bfloat16 has the range of float32 and stays.
    """
    kind = device.type
    if torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.float16:
        in_float32: AbstractContextManager[None] = torch.autocast(kind, enabled=False)
        return in_float32
    return nullcontext()


def allow_tf32(is_allowed: bool) -> None:
    """Say whether CUDA may round float32 products to TF32; by itself, torch does in convolutions.

    With torch's older switches: the newer ones, set for convolutions only, make reading the older
    ones an error, and `torch.compile` reads them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some versions recommend the newer ones
        torch.backends.cuda.matmul.allow_tf32 = is_allowed
        torch.backends.cudnn.allow_tf32 = is_allowed
