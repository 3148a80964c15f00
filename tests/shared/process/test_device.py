"""Tensors arrive as they were sent, in one buffer, and numbers come back."""

import pytest
import torch

from shared.process.device import HostCopy, allow_sync, device_constant, pack, send, unpack

TENSORS = [
    torch.arange(3, dtype=torch.uint8),
    torch.arange(6.0).view(2, 3),
    torch.zeros(0, 9),
    torch.tensor([-(2**40), 5]),
    torch.tensor(True),
    torch.arange(6, dtype=torch.float64).view(2, 3).T,
]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def test_tensors_of_all_kinds_travel_in_one_buffer() -> None:
    packed = pack(TENSORS)

    assert packed.dtype == torch.uint8
    for ours, tensor in zip(unpack(packed, like=TENSORS), TENSORS, strict=True):
        assert ours.dtype == tensor.dtype
        assert torch.equal(ours, tensor)


def test_the_cpu_gets_the_tensors_themselves() -> None:
    assert all(ours is tensor for ours, tensor in zip(send(TENSORS, "cpu"), TENSORS, strict=True))


@pytest.mark.parametrize("device", DEVICES)
def test_what_is_sent_comes_back(device: str) -> None:
    sent = send(TENSORS, device)

    copies = [HostCopy(tensor) for tensor in sent]

    assert {tensor.device.type for tensor in sent} == {device}
    for back, tensor in zip(copies, TENSORS, strict=True):
        assert torch.equal(back.wait(), tensor)


@pytest.mark.parametrize("device", DEVICES)
def test_a_constant_is_made_once_and_autograd_may_keep_it(device: str) -> None:
    with torch.inference_mode():
        first = device_constant((1.0, 0.25), torch.device(device))

    assert device_constant((1.0, 0.25), torch.device(device)) is first
    assert not first.is_inference()
    assert first.tolist() == [1.0, 0.25]


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore")
def test_a_wait_is_allowed_only_where_it_says_so() -> None:
    values = torch.ones(3, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        with pytest.raises(RuntimeError, match="synchroniz"):
            values.sum().item()
        with allow_sync():
            assert values.sum().item() == 3
        assert HostCopy(values).wait().tolist() == [1, 1, 1]
        assert torch.cuda.get_sync_debug_mode() == 2
        send([torch.ones(3)], "cuda")
    finally:
        torch.cuda.set_sync_debug_mode("default")
