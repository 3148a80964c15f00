"""8 bit per channel: at most half a step off, and exact where possible."""

import numpy as np
import pytest

from cache.format.quantise import STEPS, quantise
from shared.data.features import QuantisedMap

V, C, H, W = 2, 3, 4, 5
HALF_STEP = 0.5 * (1 + 2**-10)  # the last bit is for float32 arithmetic


def error_in_steps(values: np.ndarray, quantised: QuantisedMap) -> np.ndarray:
    gap = np.abs(quantised.dequantised().astype(np.float64) - values.astype(np.float64))
    return gap / quantised.scale[..., None, None]


@pytest.mark.parametrize("seed", range(40))
def test_no_value_is_more_than_half_a_step_off(seed: int) -> None:
    """Over magnitudes from float16's smallest numbers to its largest, with and without zeros."""
    random = np.random.default_rng(seed)
    spread = 10.0 ** random.uniform(-6, 4)
    shift = random.choice([0.0, 1.0, 100.0]) * spread
    values = np.clip(random.standard_normal((V, C, H, W)) * spread + shift, -65504, 65504)
    values = np.maximum(values, 0) if seed % 2 else values
    rounded = values.astype(np.float16)

    quantised = quantise(rounded)

    varied = quantised.scale > 0
    assert (error_in_steps(rounded[varied], planes_of(quantised, varied)) <= HALF_STEP).all()
    np.testing.assert_array_equal(quantised.dequantised()[~varied], rounded[~varied])


def planes_of(quantised: QuantisedMap, planes: np.ndarray) -> QuantisedMap:
    return QuantisedMap(
        values=quantised.values[planes], scale=quantised.scale[planes], zero=quantised.zero[planes]
    )


def test_a_hand_made_plane() -> None:
    """0 to 510 in 255 steps of 2; 3 is half way and goes to the even level 2."""
    quantised = quantise(np.float16([[[0, 1.5], [3, 510]]]))
    assert quantised.scale.tolist() == [2.0]
    assert quantised.zero.tolist() == [0.0]
    assert quantised.values.tolist() == [[[0, 1], [2, 255]]]
    assert quantised.dequantised().tolist() == [[[0, 2], [4, 510]]]


def test_every_plane_has_its_own_scale_and_zero() -> None:
    values = np.arange(V * C, dtype=np.float16).reshape(V, C, 1, 1) * np.float16([0, 1, 2, 255])
    quantised = quantise(values)
    assert quantised.scale.shape == quantised.zero.shape == (V, C)
    np.testing.assert_allclose(quantised.scale, np.arange(6).reshape(V, C))
    np.testing.assert_array_equal(quantised.dequantised(), values)


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, -65504.0, 65504.0, 2**-24])
def test_a_constant_plane_comes_back_exactly(value: float) -> None:
    values = np.full((V, H, W), value, np.float16)
    quantised = quantise(values)
    assert not quantised.scale.any()
    np.testing.assert_array_equal(quantised.dequantised(), values)


def test_zeros_after_a_relu_stay_zeros() -> None:
    values = np.maximum(np.random.default_rng(0).standard_normal((C, 9, 9)), 0).astype(np.float16)
    restored = quantise(values).dequantised()
    assert (values == 0).sum() > 50
    assert not restored[values == 0].any()


def test_the_whole_range_of_float16_fits() -> None:
    values = np.float16([[[-65504, 0, 65504]]])
    quantised = quantise(values)
    assert quantised.values.min() == 0
    assert quantised.values.max() == STEPS
    assert np.isfinite(quantised.dequantised().astype(np.float16)).all()


@pytest.mark.parametrize("at_once", [1, 3 * H * W])
def test_planes_are_the_same_however_many_are_quantised_at_once(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.random.default_rng(0).standard_normal((4, 2, H, W)).astype(np.float16)
    together = quantise(values)
    monkeypatch.setattr("cache.format.quantise.VALUES_AT_ONCE", at_once)
    apart = quantise(values)
    for ours, theirs in zip(vars_of(apart), vars_of(together), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def vars_of(quantised: QuantisedMap) -> tuple[np.ndarray, ...]:
    return quantised.values, quantised.scale, quantised.zero
