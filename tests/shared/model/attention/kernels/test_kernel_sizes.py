"""Every generation of GPUs has sizes that the kernels can take."""

from collections.abc import Iterator

import pytest
import torch

from shared.model.attention.kernels.kernel_sizes import float32_products, sizes_for
from shared.model.attention.windows.tile_schedule import PADDING

CAPABILITIES = [(7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)]


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("width", [16, 32, 64, 128])
def test_tiles_are_powers_of_two_that_divide_the_padded_queries(
    capability: tuple[int, int], dtype: torch.dtype, width: int
) -> None:
    sizes = sizes_for(capability, dtype, width)
    for tile in (sizes.forward, sizes.of_query, sizes.of_key):
        for size in (tile.queries, tile.tokens):
            assert 16 <= size <= PADDING  # 16 is the least that tensor cores multiply
            assert size & (size - 1) == 0


@pytest.fixture
def precision_of_products() -> Iterator[None]:
    before = torch.backends.cuda.matmul.fp32_precision
    yield
    torch.backends.cuda.matmul.fp32_precision = before


@pytest.mark.usefixtures("precision_of_products")
def test_float32_is_multiplied_exactly_unless_torch_may_use_tf32() -> None:
    assert float32_products() == "ieee"
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    assert float32_products() == "tf32"
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    assert float32_products() == "ieee"
