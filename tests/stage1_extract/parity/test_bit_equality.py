"""Bit-equality is asked where the same kernels compute both sides, and only there."""

from dataclasses import replace

import pytest

from stage1_extract.parity.bit_equality import Computer, live_batches

CPU = Computer(device="EPYC (AVX2)", torch="2.11", batch_size=1)
GPU = replace(CPU, device="NVIDIA H200", batch_size=4)


@pytest.mark.parametrize(("store", "own"), [(CPU, 1), (GPU, 4)])
def test_it_is_asked_at_the_batch_size_of_the_extraction(store: Computer, own: int) -> None:
    batches = live_batches(store, device=store.device, torch="2.11")

    assert batches.exact_at == (own,)
    assert batches.sizes == tuple(sorted({1, 2, own}))
    assert f"at batch size {own}" in batches.reason


@pytest.mark.parametrize(("device", "torch"), [("EPYC (AVX512)", "2.11"), ("EPYC (AVX2)", "2.12")])
def test_elsewhere_it_is_not_asked_and_the_reason_is_named(device: str, torch: str) -> None:
    batches = live_batches(CPU, device=device, torch=torch)

    assert batches.exact_at == ()
    assert "nowhere: the store was made with" in batches.reason


def test_of_a_store_that_names_no_device_it_is_not_asked() -> None:
    batches = live_batches(replace(CPU, device=""), device=CPU.device, torch="2.11")

    assert batches.exact_at == ()
    assert "a device that it does not name" in batches.reason
