"""Memory of batches is reused, but never while something still refers to it."""

import gc

import numpy as np
import pytest
import torch

from shared.data.batch_memory import BatchMemory

FLOAT16, UINT8 = np.dtype(np.float16), np.dtype(np.uint8)


def test_memory_without_a_reference_is_reused() -> None:
    memory = BatchMemory()
    first = memory.tensor((3, 4), FLOAT16)
    address = first.data_ptr()
    del first
    gc.collect()
    again = memory.tensor((3, 8), UINT8)  # as many bytes
    assert again.data_ptr() == address
    assert (again.shape, again.dtype) == ((3, 8), torch.uint8)
    assert memory.tensor((3, 4), FLOAT16).data_ptr() != address


def test_a_view_of_a_piece_keeps_the_whole_block() -> None:
    memory = BatchMemory()
    tensor = memory.tensor((2, 3), FLOAT16).fill_(1)
    part, array = tensor[1:], tensor[0].numpy()
    needed = torch.ones(2, 3, dtype=torch.float16, requires_grad=True)
    product = (tensor * needed).sum()  # autograd keeps what it needs for the gradient
    del tensor
    for _ in range(3):
        memory.tensor((2, 3), FLOAT16).fill_(7)
    assert part.tolist() == [[1, 1, 1]]
    assert array.tolist() == [1, 1, 1]
    del part, array
    memory.tensor((2, 3), FLOAT16).fill_(7)
    product.backward()
    assert needed.grad is not None
    assert needed.grad.tolist() == [[1, 1, 1]] * 2


def test_memories_share_nothing() -> None:
    first, second = BatchMemory(), BatchMemory()
    address = first.tensor((5,), FLOAT16).data_ptr()
    held = first.tensor((5,), FLOAT16)
    assert held.data_ptr() == address
    assert second.tensor((5,), FLOAT16).data_ptr() != address


def test_page_locked_memory_is_left_to_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    honest, asked = torch.empty, []

    def empty(shape: tuple[int, ...], *, dtype: torch.dtype, pin_memory: bool) -> torch.Tensor:
        asked.append((shape, dtype, pin_memory))
        return honest(shape, dtype=dtype)

    monkeypatch.setattr(torch, "empty", empty)
    BatchMemory(is_pinned=True).tensor((2, 3), FLOAT16)
    assert asked == [((2, 3), torch.float16, True)]


@pytest.mark.gpu
def test_page_locked_memory_is_page_locked() -> None:
    assert BatchMemory(is_pinned=True).tensor((2, 3), FLOAT16).is_pinned()
    assert not BatchMemory().tensor((2, 3), FLOAT16).is_pinned()
