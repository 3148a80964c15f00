"""Compares the Triton kernels with their twins, in Triton's interpreter; prints errors as JSON.

    TRITON_INTERPRET=1 python -m tests.shared.model.attention.kernels.kernel_cases

The environment variable has to be there before Triton is imported, so this is a process of its own.
"""

import json
from dataclasses import dataclass

import torch
from torch import Tensor

from shared.model.attention.biased_attention import biased_attention, dense_attention
from shared.model.attention.window_mean import gathered_window_mean, window_mean
from shared.model.attention.windows.attention_bias import AttentionBias
from shared.model.attention.windows.local_windows import LocalWindows, QueryCells, TokenLayout

THREE_CAMERAS = TokenLayout(bev=(7, 9), camera=(3, 4, 7))
ONE_CAMERA = TokenLayout(bev=(8, 11), camera=(1, 4, 8))


@dataclass(frozen=True, kw_only=True)
class Case:
    """The shapes of a comparison; `coverage` is the share of queries with a window on a map."""

    layout: TokenLayout = THREE_CAMERAS
    samples: int = 1
    queries: int = 37
    heads: int = 2
    width: int = 32
    sigma_cells: float | None = None
    coverage: float = 0.4
    dtype: torch.dtype = torch.float32


BIASED = {
    "heads of the decoder": Case(samples=2),
    "gaussian": Case(sigma_cells=1.5, heads=1, width=16),
    "one camera, odd width, few queries": Case(layout=ONE_CAMERA, queries=5, width=12),
    "whole blocks of queries, wide heads": Case(
        layout=ONE_CAMERA, queries=128, heads=1, width=64, sigma_cells=2.0
    ),
    "no window anywhere": Case(heads=1, coverage=0.0),
    "windows everywhere": Case(heads=1, coverage=1.0),
    "float16": Case(heads=1, dtype=torch.float16, sigma_cells=3.0),
}
INSIDE = {
    "heads of the generator": Case(samples=2, queries=7, heads=4, coverage=0.8),
    "three heads, odd width, one camera": Case(
        layout=ONE_CAMERA, queries=11, heads=3, width=12, coverage=0.7
    ),
    "no window anywhere": Case(queries=5, coverage=0.0),
}


def windows_of(case: Case, seed: int = 0) -> LocalWindows:
    """Return windows on, over and off the border, some of them around cells off their map."""
    generator = torch.Generator().manual_seed(seed)

    def cells(shape: tuple[int, ...], rows: int, columns: int) -> Tensor:
        within = (torch.randint(-1, n + 1, shape, generator=generator) for n in (rows, columns))
        return torch.stack(list(within), dim=-1)

    views, rows, columns = case.layout.camera
    each, of_cameras = (case.samples, case.queries), (case.samples, views, case.queries)
    return LocalWindows(
        cells=QueryCells(
            layout=case.layout,
            bev=cells(each, *case.layout.bev),
            on_grid=torch.rand(each, generator=generator) < case.coverage,
            camera=cells(of_cameras, rows, columns),
            seen=torch.rand(of_cameras, generator=generator) < case.coverage,
        ),
        bev_side=3,
        camera_side=5,
    )


def random_tensors(*shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(len(shapes))
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]


def biased_errors(case: Case) -> dict[str, float]:
    """Compare outputs and gradients of attention with a bias."""
    windows, tokens = windows_of(case), case.layout.tokens
    *inputs, per_sensor = random_tensors(
        *[(case.samples, case.heads, n, case.width) for n in (case.queries, tokens, tokens)],
        (case.samples, case.queries, 2),
    )
    per_sensor = (per_sensor.detach() * 4).clamp(-5, 5).requires_grad_()
    bias = AttentionBias(
        per_sensor=per_sensor,
        windows=windows,
        implementation="kernels",
        sigma_cells=case.sigma_cells,
    )
    attended = biased_attention(*(tensor.to(case.dtype) for tensor in inputs), bias=bias)
    expected = dense_attention(*inputs, bias=bias)
    assert attended.dtype == case.dtype
    names = ("attended", "of query", "of key", "of value", "of bias")
    return compared(names, attended.float(), expected, [*inputs, per_sensor])


def inside_errors(case: Case) -> dict[str, float]:
    """Compare outputs and gradients of attention inside windows only."""
    windows, tokens = windows_of(case), case.layout.tokens
    inputs = random_tensors(
        (case.samples, case.heads, case.queries, case.width),
        *[(case.samples, tokens, case.width)] * 2,
        (2, case.width),
    )
    mean = window_mean(*inputs, windows=windows, implementation="kernels")
    is_empty = ~windows.nearby.any(dim=-1)
    assert (mean.transpose(1, 2)[is_empty] == 0).all()
    names = ("mean", "of folded", "of keys", "of values", "of types")
    return compared(names, mean, gathered_window_mean(*inputs, windows=windows), inputs)


def compared(
    names: tuple[str, ...], ours: Tensor, expected: Tensor, leaves: list[Tensor]
) -> dict[str, float]:
    """Return the largest errors of output and gradients, relative to the largest value."""
    weights = torch.linspace(-1.0, 1.0, ours.numel()).view_as(ours)
    ours_all = [ours, *torch.autograd.grad((ours * weights).sum(), leaves)]
    expected_all = [expected, *torch.autograd.grad((expected * weights).sum(), leaves)]
    errors = {}
    for name, our, other in zip(names, ours_all, expected_all, strict=True):
        assert our.isfinite().all()
        error = (our - other).abs().max() / other.abs().max().clamp(min=1e-30)
        errors[name] = error.item()
    return errors


def main() -> None:
    """Print {"biased": {case: {tensor: error}}, "inside": ...}."""
    results = {
        "biased": {name: biased_errors(case) for name, case in BIASED.items()},
        "inside": {name: inside_errors(case) for name, case in INSIDE.items()},
    }
    print(json.dumps(results))


if __name__ == "__main__":
    main()
