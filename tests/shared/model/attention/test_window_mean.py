"""Sparse matrices and gathered tokens average the same tokens, forward and backward."""

import pytest
import torch

from shared.model.attention import window_mean as module
from shared.model.attention.cpu.sparse_window_mean import sparse_window_mean
from shared.model.attention.window_mean import gathered_window_mean, window_mean
from tests.shared.model.attention.scenes import (
    HEADS,
    LAYOUT,
    NOTHING,
    B,
    Q,
    drawn,
    random_windows,
)

D = 12


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("step", [3, Q])
def test_gathered_tokens_give_what_sparse_matrices_give(
    seed: int, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = random_windows(seed)
    monkeypatch.setattr(module, "GATHERED", step * B * D * windows.tokens.shape[-1])
    inputs = [
        drawn(*shape, seed=seed + at)
        for at, shape in enumerate(
            [(B, HEADS, Q, D), (B, LAYOUT.tokens, D), (B, LAYOUT.tokens, D), (2, D)]
        )
    ]
    weights = drawn(B, HEADS, Q, D, seed=9).detach()
    results = []
    for average in (gathered_window_mean, sparse_window_mean):
        mean = average(*inputs, windows=windows)
        results.append([mean, *torch.autograd.grad((mean * weights).sum(), inputs)])
    for gathered, sparse in zip(*results, strict=True):
        torch.testing.assert_close(gathered, sparse, rtol=1e-5, atol=1e-5)
    assert (results[0][0][:, :, NOTHING] == 0).all()


def test_on_a_cpu_sparse_matrices_are_taken() -> None:
    shapes = [(B, HEADS, Q, D), (B, LAYOUT.tokens, D), (B, LAYOUT.tokens, D), (2, D)]
    inputs = [drawn(*shape) for shape in shapes]
    windows = random_windows()
    expected = sparse_window_mean(*inputs, windows=windows)
    assert torch.equal(window_mean(*inputs, windows=windows), expected)
