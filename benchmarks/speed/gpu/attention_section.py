"""The decoder's attention with AQR's bias against torch's without one, and the weight generator.

Queries, windows and memory are those of a real step of `frozen_a` on the first four samples of the
store, caught on their way into AQR; with synthetic samples these are 900 + 830 queries.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.speed.gpu.cases import Cases, Row
from benchmarks.speed.gpu.kernel_limits import attention_limits
from benchmarks.speed.gpu.repeated_timing import peak_mb, repeated_ms
from benchmarks.speed.gpu.section_request import SectionRequest
from benchmarks.speed.gpu.training_case import (
    short_recipe,
    store_batches,
    store_detector,
    train_briefly,
)
from cache.reader import CachedFeatures
from shared.model.attention.biased_attention import biased_attention
from stage2_train.data.sampler import Place

BATCH_SIZE = 4
PROFILES = ("uniform", "gaussian")
BACKENDS = {"cuDNN": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}


@dataclass(frozen=True, kw_only=True, slots=True)
class Caught:
    """What a step gave to AQR.

    Args:
        generator: the weight generator.
        inputs: its positions, keys and values, (B, Q or N, D).
        bias: what the bias generator returned, for the decoder.
        heads: of the decoder.
    """

    generator: nn.Module
    inputs: tuple[Tensor, ...]
    bias: Any
    heads: int


def measure_attention(request: SectionRequest, cases: Cases) -> None:
    """Measure attention without a bias, with each profile of the bias, and the generator."""
    for profile in PROFILES:
        caught: list[Caught] = []
        about = {"what": "inputs", "profile": profile}

        def catch(profile: str = profile, caught: list[Caught] = caught) -> Row:
            caught.append(catch_step(request, profile))
            return _shape(caught[0])

        cases.run(about, catch)
        for step in caught:
            _measure_profile(cases, step, profile)


def catch_step(request: SectionRequest, profile: str) -> Caught:
    """Take a step of `frozen_a` and return what went into AQR."""
    store = CachedFeatures(request.store)
    recipe = short_recipe("frozen_a", BATCH_SIZE, request.precision, sensor_drop=None)
    if profile != "uniform":
        recipe = replace(recipe, aqr=replace(recipe.aqr, profile=profile))
    detector = store_detector(store, recipe)
    head = detector.pts_bbox_head
    inputs: list[Any] = []
    biases: list[Any] = []
    handles = [
        head.aqr_weight_generator.register_forward_pre_hook(lambda _, args: inputs.append(args)),
        head.attention_bias_generator.register_forward_hook(lambda *args: biases.append(args[-1])),
    ]
    places = [Place(0, number) for number in range(BATCH_SIZE)]
    out = request.scratch / f"attention_{profile}"
    load = partial(_repeated, store, places)
    train_briefly(store, detector, recipe, out, load, 1)
    for handle in handles:
        handle.remove()
    return Caught(
        generator=head.aqr_weight_generator,
        inputs=tuple(tensor.detach() for tensor in inputs[0][:3]),
        bias=biases[0],
        heads=store.preset.head.heads,
    )


def _repeated(store: CachedFeatures, places: list[Place], _: Any) -> Iterator[Any]:
    return store_batches(store, itertools.repeat(places), 0)


def _shape(step: Caught) -> Row:
    samples, queries, width = step.inputs[0].shape
    tokens = step.inputs[1].shape[1]
    size = {"samples": samples, "queries": queries, "tokens": tokens, "heads": step.heads}
    return size | {"limits_ms": attention_limits(**size, head_width=width // step.heads)}


def _measure_profile(cases: Cases, step: Caught, profile: str) -> None:
    query, key, value = _heads(step)
    if profile == "uniform":
        _measure_without_bias(cases, (query, key, value))
        cases.run({"what": "weight generator"}, partial(_generator_times, step))
    bias = _random_bias(step)
    for tables in ("of an earlier layer", "made anew"):
        is_new = tables == "made anew"

        def biased(is_new: bool = is_new) -> Tensor:
            taken = replace(bias, windows=replace(bias.windows)) if is_new else bias
            return biased_attention(query, key, value, taken)

        about = {"what": "with a bias", "profile": profile, "tables": tables}
        cases.run(about, partial(_attention_times, biased, (query, key, value, bias.per_sensor)))


def _measure_without_bias(cases: Cases, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    attend = partial(scaled_dot_product_attention, *inputs)
    about = {"what": "without a bias", "kernel": "torch's choice"}
    cases.run(about, partial(_attention_times, attend, inputs))
    for name, backend in BACKENDS.items() if inputs[0].is_cuda else ():
        with sdpa_kernel(backend):
            cases.run(about | {"kernel": name}, partial(_attention_times, attend, inputs))


def _heads(step: Caught) -> tuple[Tensor, Tensor, Tensor]:
    """Return random queries, keys and values as the decoder's layers have them."""
    samples, queries, width = step.inputs[0].shape
    tokens, device = step.inputs[1].shape[1], step.inputs[0].device
    dtype = torch.float32
    if device.type == "cuda":
        dtype = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    generator = torch.Generator().manual_seed(0)

    def random(count: int) -> Tensor:
        values = torch.randn(samples, count, step.heads, width // step.heads, generator=generator)
        return values.to(device, dtype).transpose(1, 2).requires_grad_()

    return random(queries), random(tokens), random(tokens)


def _random_bias(step: Caught) -> Any:
    """Return the caught bias with numbers of -2.5 to 2.5: at the start all are 0."""
    like = step.bias.per_sensor.detach()
    numbers = torch.rand(like.shape, generator=torch.Generator().manual_seed(1)) * 5.0 - 2.5
    return replace(step.bias, per_sensor=numbers.to(like).requires_grad_())


def _attention_times(attend: Callable[[], Tensor], inputs: tuple[Tensor, ...]) -> Row:
    with torch.no_grad():
        gradient = torch.randn_like(attend())

    def both() -> None:
        torch.autograd.grad(attend(), inputs, gradient)

    row = {"forward_ms": repeated_ms(attend), "forward_and_backward_ms": repeated_ms(both)}
    return row | {"peak_mb": peak_mb(both), "dtype": str(inputs[0].dtype)}


def _generator_times(step: Caught) -> Row:
    """Measure the whole generator, and its attention, each with tables of its own; per sample."""
    generator: Any = step.generator
    inputs = [tensor.clone().requires_grad_() for tensor in step.inputs]
    types = torch.stack([generator.bev_type_embed, generator.rv_type_embed]).detach()

    def weigh() -> Tensor:
        weights: Tensor = generator(*inputs, replace(step.bias.windows))
        return weights

    def look() -> Tensor:
        positions, *memory = inputs
        windows = replace(step.bias.windows)
        seen: Tensor = generator.attention.look(positions.to(types), *memory, types, windows)
        return seen

    row: Row = {}
    trained = [*inputs, *generator.parameters()]
    for name, work in (("generator", weigh), ("attention", look)):
        with torch.no_grad():
            gradient = torch.randn_like(work())

        def both(work: Callable[[], Tensor] = work, gradient: Tensor = gradient) -> None:
            torch.autograd.grad(work(), trained, gradient, allow_unused=True)

        row[f"{name}_forward_ms_per_sample"] = repeated_ms(work) / len(inputs[0])
        row[f"{name}_ms_per_sample"] = repeated_ms(both) / len(inputs[0])
        row[f"{name}_peak_mb"] = peak_mb(both)
    return row
