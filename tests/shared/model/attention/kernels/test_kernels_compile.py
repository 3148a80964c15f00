"""The kernels compile for real GPUs, without one: in the sizes of the table, into exact sums."""

from pathlib import Path
from typing import Any

import pytest
import torch

from shared.model.attention.kernels.kernel_sizes import sizes_for
from shared.model.attention.windows.tile_schedule import Tile

triton = pytest.importorskip("triton", reason="the kernels need Triton: `pip install triton`")

TURING_SHARED_BYTES = 64 * 1024  # the least of all generations
HEADS, E = 8, 32
IN_DTYPE = {"query", "key", "value", "attended", "grad", "of_query_out", "ordered_query",
            "ordered_grad", "of_key_out", "of_value_out"}  # fmt: skip
FLOATS = {"bias", "token_rows", "token_columns", "rows", "columns", "log_sum", "of_bias",
          "mean_gains"}  # fmt: skip
SCALARS = {"scale", "falloff", "bev_reach", "camera_reach"}
NUMBERS = {"queries", "padded", "tokens", "bev_tokens", "camera_tokens", "maps", "blocks",
           "token_blocks"}  # fmt: skip
TYPES = {torch.float32: "*fp32", torch.float16: "*fp16", torch.bfloat16: "*bf16"}


def compiled(kernel: Any, tile: Tile, capability: tuple[int, int], dtype: torch.dtype) -> Any:
    """Compile for a GPU that need not be there."""
    constants = {"heads": HEADS, "width": E, "wide": E, "gaussian": True, "products": "ieee",
                 "block_queries": tile.queries, "block_tokens": tile.tokens,
                 "stages": tile.stages}  # fmt: skip
    signature = {}
    for name in kernel.arg_names:
        if name in constants:
            signature[name] = "constexpr"
        elif name in IN_DTYPE:
            signature[name] = TYPES[dtype]
        elif name in FLOATS | SCALARS:
            signature[name] = "fp32" if name in SCALARS else "*fp32"
        else:
            signature[name] = "i32" if name in NUMBERS else "*i32"
    source = triton.compiler.ASTSource(fn=kernel, signature=signature, constexprs=constants)
    target = triton.backends.compiler.GPUTarget("cuda", capability[0] * 10 + capability[1], 32)
    options = {"num_warps": tile.warps, "num_stages": tile.stages}
    return triton.compile(source, target=target, options=options)


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [((7, 5), torch.float16), ((8, 0), torch.float16), ((9, 0), torch.bfloat16)],
)
def test_they_compile_for_a_generation_and_fit_its_shared_memory(
    capability: tuple[int, int],
    dtype: torch.dtype,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    from shared.model.attention.kernels import window_bias_gradient_kernels as backward
    from shared.model.attention.kernels.window_bias_kernels import attend_kernel

    sizes = sizes_for(capability, dtype, E)
    for kernel, tile in (
        (attend_kernel, sizes.forward),
        (backward.query_gradient_kernel, sizes.of_query),
        (backward.key_gradient_kernel, sizes.of_key),
    ):
        binary = compiled(kernel, tile, capability, dtype)
        assert 0 < binary.metadata.shared <= TURING_SHARED_BYTES
        assert len(binary.asm["cubin"]) > 0


@pytest.mark.parametrize("name", ["window_mean", "folded_gradient", "memory_gradient"])
def test_the_compiler_makes_no_inexact_products_of_the_sums_inside_windows(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A sum in the form of a matrix product became one, in TF32, with every term counted twice.
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    from shared.model.attention.kernels import window_mean_kernels as kernels

    kernel = getattr(kernels, f"{name}_kernel")
    constants = {"heads": 16, "width": 64, "wide": 64, "head_rows": 16, "block_cells": 16}
    constants = {name: value for name, value in constants.items() if name in kernel.arg_names}
    whole = {"centre_rows", "centre_columns", "order", "starts"}
    signature = {
        name: "i32" if name in kernels.SIZES else "*i32" if name in whole else "*fp32"
        for name in kernel.arg_names
    } | dict.fromkeys(constants, "constexpr")
    source = triton.compiler.ASTSource(fn=kernel, signature=signature, constexprs=constants)
    target = triton.backends.compiler.GPUTarget("cuda", 90, 32)
    binary = triton.compile(source, target=target)
    assert "tt.reduce" in binary.asm["ttir"]
    assert "tt.dot" not in binary.asm["ttir"]
