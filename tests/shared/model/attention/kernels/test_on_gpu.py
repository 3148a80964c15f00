"""On a CUDA device the kernels are as exact as torch's own attention, and the same every time."""

import warnings
from collections.abc import Iterator
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.speed.aqr import windows_of
from shared.config.aqr_config import AqrConfig
from shared.model.aqr.weight_generator import AqrWeightGenerator
from shared.model.attention.biased_attention import biased_attention, dense_attention
from shared.model.attention.chunked_attention import chunked_attention
from shared.model.attention.kernels.kernel_choice import reason_against
from shared.model.attention.window_mean import gathered_window_mean, window_mean
from shared.model.attention.windows.attention_bias import AttentionBias
from shared.model.attention.windows.local_windows import LocalWindows

pytestmark = pytest.mark.gpu

PRESETS = ["r50_800x320", "vov_1600x640"]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
HEADS, E, D = 8, 32, 256
# A kernel of ours rounds where torch's does, but adds up in another order; the bias' gradient, for
# which torch has no kernel, is compared with the worst of torch's gradients.
TIMES_TORCH = 2.0
FLOOR = 2e-6  # relative: float32 rounding of sums over 56,400 tokens


@pytest.fixture(autouse=True)
def warnings_of_other_versions() -> Iterator[None]:
    """Other versions of torch and Triton warn of other things: not what is tested here."""
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        yield


def random_tensor(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator("cuda").manual_seed(seed)
    return torch.randn(shape, generator=generator, device="cuda")


def inputs_of(windows: LocalWindows, dtype: torch.dtype) -> list[Tensor]:
    """Return query, key and value as the decoder makes them: heads split off the width."""
    tokens, queries = windows.cells.layout.tokens, windows.cells.bev.shape[1]
    return [
        random_tensor(1, n, HEADS, E, seed=seed).to(dtype).transpose(1, 2).requires_grad_()
        for seed, n in enumerate((queries, tokens, tokens))
    ]


def relative(ours: Tensor, exact: Tensor) -> float:
    assert ours.isfinite().all()
    return float((ours.detach().double() - exact.detach()).norm() / exact.detach().norm())


def exact_attention(
    inputs: list[Tensor], added: Tensor | None, weights: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """Return output and gradients (of inputs and the added (1, Q, N)) in float64, head by head."""
    outputs, gradients, of_added = [], [], None
    for head in range(HEADS):
        leaves = [t.detach()[:, head].double().requires_grad_() for t in inputs]
        query, key, value = leaves
        scores = query @ key.mT * E**-0.5
        if added is not None:
            leaf = added.detach().double().requires_grad_()
            leaves.append(leaf)
            scores = scores + leaf
        attended = scores.softmax(dim=-1) @ value
        of_head = torch.autograd.grad((attended * weights[:, head].double()).sum(), leaves)
        if added is not None:
            of_added = of_head[3] if of_added is None else of_added + of_head[3]
        outputs.append(attended.detach())
        gradients.append(of_head[:3])
    stacked = [torch.stack(of_input, dim=1) for of_input in zip(*gradients, strict=True)]
    return torch.stack(outputs, dim=1), stacked if of_added is None else [*stacked, of_added]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sigma_cells", [None, 2.0])
def test_attention_with_a_bias_is_as_exact_as_torchs_without(
    preset: str, dtype: torch.dtype, sigma_cells: float | None
) -> None:
    windows = windows_of(preset, torch.device("cuda"))
    inputs = inputs_of(windows, dtype)
    queries = windows.cells.bev.shape[1]
    per_sensor = (random_tensor(1, queries, 2, seed=7) * 2).clamp(-5, 5).requires_grad_()
    weights = random_tensor(1, HEADS, queries, E, seed=8).to(dtype)
    bias = AttentionBias(
        per_sensor=per_sensor, windows=windows, implementation="kernels", sigma_cells=sigma_cells
    )

    ours = biased_attention(*inputs, bias=bias)
    of_ours = torch.autograd.grad((ours * weights).sum(), [*inputs, per_sensor])
    theirs = scaled_dot_product_attention(*inputs)
    of_theirs = torch.autograd.grad((theirs * weights).sum(), inputs)

    exact, of_exact = exact_attention(inputs, bias.dense(), weights)
    (of_bias,) = torch.autograd.grad(bias.dense(), per_sensor, of_exact.pop().float())
    plain, of_plain = exact_attention(inputs, None, weights)
    allowed = [relative(theirs, plain)]
    allowed += [relative(t, e) for t, e in zip(of_theirs, of_plain, strict=True)]
    allowed.append(max(allowed[1:]))
    errors = [relative(ours, exact)]
    errors += [relative(o, e) for o, e in zip(of_ours, [*of_exact, of_bias.double()], strict=True)]
    for error, limit in zip(errors, allowed, strict=True):
        assert error <= TIMES_TORCH * limit + FLOOR


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_two_runs_give_the_same_bits(preset: str, dtype: torch.dtype) -> None:
    windows = windows_of(preset, torch.device("cuda"))
    inputs = inputs_of(windows, dtype)
    per_sensor = random_tensor(1, windows.cells.bev.shape[1], 2, seed=7).requires_grad_()
    bias = AttentionBias(per_sensor=per_sensor, windows=windows, implementation="kernels")
    runs = []
    for _ in range(2):
        attended = biased_attention(*inputs, bias=bias)
        gradients = torch.autograd.grad(attended.float().square().sum(), [*inputs, per_sensor])
        runs.append([attended, *gradients])
    for first, second in zip(*runs, strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_attention_inside_windows_equals_gathered_tokens(preset: str, dtype: torch.dtype) -> None:
    windows = windows_of(preset, torch.device("cuda"))
    tokens, queries = windows.cells.layout.tokens, windows.cells.bev.shape[1]
    folded = random_tensor(1, 4, queries, D, seed=1).mul(D**-0.5).requires_grad_()
    types = random_tensor(2, D, seed=2).requires_grad_()
    memory = [random_tensor(1, tokens, D, seed=seed).to(dtype).requires_grad_() for seed in (3, 4)]
    inputs = [folded, *memory, types]
    weights = random_tensor(1, 4, queries, D, seed=5)
    runs = []
    for average in (partial(window_mean, implementation="kernels"), gathered_window_mean):
        mean = average(*inputs, windows=windows)
        runs.append([mean, *torch.autograd.grad((mean * weights).sum(), inputs)])
    # Gradients of the memory come back in its dtype, rounded once.
    step = 1e-5 if dtype == torch.float32 else torch.finfo(dtype).eps
    for ours, gathered in zip(*runs, strict=True):
        assert relative(ours, gathered.double()) <= step


def test_auto_takes_the_kernels() -> None:
    for dtype in DTYPES:
        assert reason_against(torch.zeros(2, E, device="cuda", dtype=dtype)) is None


def test_chunks_equal_the_reference_with_finite_gradients() -> None:
    windows = windows_of("tiny", torch.device("cuda"), queries=100)
    per_sensor = random_tensor(1, 100, 2, seed=7).requires_grad_()
    bias = AttentionBias(per_sensor=per_sensor, windows=windows)
    inputs = inputs_of(windows, torch.bfloat16)
    exact = dense_attention(*(tensor.double() for tensor in inputs), bias=bias)
    attended = chunked_attention(*inputs, bias=bias)
    assert relative(attended, exact) < 2**-8
    for gradient in torch.autograd.grad(attended.float().square().sum(), [*inputs, per_sensor]):
        assert gradient.isfinite().all()


def test_the_weight_generator_equals_itself_on_a_cpu() -> None:
    torch.manual_seed(0)
    generator = AqrWeightGenerator(64, AqrConfig(start="upstream", ffn_width=32)).eval()
    results = []
    for device in ("cpu", "cuda"):
        windows = windows_of("tiny", torch.device(device), queries=100)
        tokens = windows.cells.layout.tokens
        inputs = [
            torch.randn(1, n, 64, generator=torch.Generator().manual_seed(n)).to(device)
            for n in (100, tokens, tokens)
        ]
        generator.to(device)
        weights = generator(*inputs, windows)
        gradients = torch.autograd.grad(weights.square().sum(), list(generator.parameters()))
        results.append([tensor.cpu() for tensor in (weights, *gradients)])
    for on_cpu, on_gpu in zip(*results, strict=True):
        assert on_gpu.isfinite().all()
        assert (on_gpu - on_cpu).abs().max() <= 1e-4 * on_cpu.abs().max()
