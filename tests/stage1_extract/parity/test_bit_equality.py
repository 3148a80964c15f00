"""Bit-equality is asked where the same kernels compute both sides, and only there."""

from dataclasses import replace

import pytest

from stage1_extract.parity.bit_equality import Computer, live_batches

CPU = Computer(device="AMD EPYC (AVX2)", torch="2.11.0", precision="float32")
GPU = Computer(device="NVIDIA H200", torch="2.11.0", precision="float16 autocast, batches of 4")


def test_on_the_same_cpu_it_is_asked_at_every_batch_size() -> None:
    batches = live_batches(CPU, CPU, is_cpu=True)

    assert batches.sizes == batches.exact_at == (1, 2)


def test_on_the_same_gpu_it_is_asked_at_the_batch_size_of_the_extraction() -> None:
    batches = live_batches(GPU, GPU, is_cpu=False)

    assert (batches.sizes, batches.exact_at) == ((1, 2, 4), (4,))


def test_without_a_batch_size_it_is_not_asked_on_a_gpu() -> None:
    silent = replace(GPU, precision="float16 autocast")

    batches = live_batches(silent, silent, is_cpu=False)

    assert (batches.sizes, batches.exact_at) == ((1, 2), ())


@pytest.mark.parametrize("now", [replace(CPU, device="AMD EPYC (AVX512)"), replace(CPU, torch="3")])
def test_elsewhere_it_is_not_asked_and_the_reason_is_named(now: Computer) -> None:
    batches = live_batches(CPU, now, is_cpu=True)

    assert batches.exact_at == ()
    assert "the store was made with" in batches.reason


def test_of_a_store_that_names_no_device_it_is_not_asked() -> None:
    batches = live_batches(replace(CPU, device=""), CPU, is_cpu=True)

    assert batches.exact_at == ()
    assert "a device that it does not name" in batches.reason
