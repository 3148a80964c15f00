"""8 bit per channel: half a step off at most, and exact where it can be."""

import numpy as np
import pytest

from cache.format.quantise import STEPS, quantise
from shared.data.features import QuantisedMap

V, C, H, W = 2, 3, 4, 5
HALF_STEP = 0.5 * (1 + 2**-10)  # the last bit is for float32 arithmetic


def error_in_steps(values: np.ndarray, found: QuantisedMap) -> np.ndarray:
    gap = np.abs(found.dequantised().astype(np.float64) - values.astype(np.float64))
    return gap / found.scale[..., None, None]


@pytest.mark.parametrize("seed", range(40))
def test_no_value_is_more_than_half_a_step_off(seed: int) -> None:
    """Over magnitudes from float16's smallest numbers to its largest, with and without zeros."""
    random = np.random.default_rng(seed)
    spread = 10.0 ** random.uniform(-6, 4)
    shift = random.choice([0.0, 1.0, 100.0]) * spread
    values = np.clip(random.standard_normal((V, C, H, W)) * spread + shift, -65504, 65504)
    values = np.maximum(values, 0) if seed % 2 else values
    rounded = values.astype(np.float16)

    found = quantise(rounded)

    varied = found.scale > 0
    assert (error_in_steps(rounded[varied], found_at(found, varied)) <= HALF_STEP).all()
    np.testing.assert_array_equal(found.dequantised()[~varied], rounded[~varied])


def found_at(found: QuantisedMap, planes: np.ndarray) -> QuantisedMap:
    return QuantisedMap(
        values=found.values[planes], scale=found.scale[planes], zero=found.zero[planes]
    )


def test_a_hand_made_plane() -> None:
    """0 to 510 in 255 steps of 2; 3 is half way and goes to the even level 2."""
    found = quantise(np.float16([[[0, 1.5], [3, 510]]]))
    assert found.scale.tolist() == [2.0]
    assert found.zero.tolist() == [0.0]
    assert found.values.tolist() == [[[0, 1], [2, 255]]]
    assert found.dequantised().tolist() == [[[0, 2], [4, 510]]]


def test_every_plane_has_its_own_scale_and_zero() -> None:
    values = np.arange(V * C, dtype=np.float16).reshape(V, C, 1, 1) * np.float16([0, 1, 2, 255])
    found = quantise(values)
    assert found.scale.shape == found.zero.shape == (V, C)
    np.testing.assert_allclose(found.scale, np.arange(6).reshape(V, C))
    np.testing.assert_array_equal(found.dequantised(), values)


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, -65504.0, 65504.0, 2**-24])
def test_a_constant_plane_comes_back_exactly(value: float) -> None:
    values = np.full((V, H, W), value, np.float16)
    found = quantise(values)
    assert not found.scale.any()
    np.testing.assert_array_equal(found.dequantised(), values)


def test_zeros_after_a_relu_stay_zeros() -> None:
    values = np.maximum(np.random.default_rng(0).standard_normal((C, 9, 9)), 0).astype(np.float16)
    found = quantise(values).dequantised()
    assert (values == 0).sum() > 50
    assert not found[values == 0].any()


def test_the_whole_range_of_float16_fits() -> None:
    values = np.float16([[[-65504, 0, 65504]]])
    found = quantise(values)
    assert found.values.min() == 0
    assert found.values.max() == STEPS
    assert np.isfinite(found.dequantised().astype(np.float16)).all()
