"""The smallest Triton kernel, to see whether Triton compiles and starts kernels here."""

# mypy: disable-error-code="import,untyped-decorator,no-untyped-def,no-untyped-call"

import torch
import triton
from triton import language as tl


def probe(device: torch.device) -> None:
    """Run it.

    Raises:
        Exception: of Triton, its compiler or the driver, if it does not run.
    """
    numbers = torch.zeros(16, device=device)
    _add_one[(1,)](numbers)
    if not bool((numbers == 1.0).all()):
        raise RuntimeError("a kernel that adds 1 to zeros did not")


@triton.jit
def _add_one(numbers):
    places = tl.arange(0, 16)
    tl.store(numbers + places, tl.load(numbers + places) + 1.0)
