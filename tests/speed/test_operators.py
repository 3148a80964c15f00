"""What the count of operators counts."""

import torch

from benchmarks.speed.operators import PHASES, CudaPolicy, OperatorCounter, count, row, table


def test_views_and_allocations_are_no_launches() -> None:
    left, right = torch.ones(2, 3), torch.ones(3, 4)
    with OperatorCounter() as counter:
        torch.empty(5)
        (left @ right).T[2:].relu()
    assert counter.operators == {"mm": 1, "relu": 1}


def test_reading_a_value_and_sending_a_tensor_wait() -> None:
    values = torch.ones(3)
    counter = OperatorCounter()
    with CudaPolicy(counter):
        values.sum().item()
        values.to("cpu")
        values.new_tensor([1.0])
        values.to("cpu", non_blocking=True)
        values.to(torch.float64)
    assert counter.pending["waits"] == 3


def test_what_cuda_computes_in_float32_is_cast_under_autocast() -> None:
    counter = OperatorCounter()
    with CudaPolicy(counter), torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.ones(3, dtype=torch.bfloat16).sum().dtype == torch.float32


def test_a_training_step_is_counted_phase_by_phase() -> None:
    counted = row("aqr_only", 2, count("aqr_only", 2))
    assert list(counted["launches"]) == list(PHASES)
    assert min(counted["launches"].values()) > 0
    step = f"{sum(counted['launches'].values()):,}"
    assert step in table([counted])
