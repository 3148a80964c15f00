"""A digest changes with whatever it is of, and with nothing else."""

import hashlib

import numpy as np
import pytest
import torch
from blake3 import blake3
from numpy.typing import NDArray

from shared.digests import BLAKE3, SHA256, array_digest, json_digest, state_digest

ARRAY = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_an_array_is_digested_by_type_shape_and_little_endian_bytes() -> None:
    whole = b"<f4(2, 3)" + np.arange(6, dtype="<f4").tobytes()
    assert array_digest(ARRAY) == array_digest(ARRAY, SHA256) == hashlib.sha256(whole).hexdigest()
    assert array_digest(ARRAY, BLAKE3) == blake3(whole).hexdigest()


def test_blake3_is_that_of_its_specification() -> None:
    """The first test vector of the reference implementation, and one of several chunks."""
    empty = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert blake3(b"").hexdigest() == empty
    message = bytes(i % 251 for i in range(3072))
    begin = "b98cb0ff3623be03326b373de6b9095218513e64f1ee2edd2525c7ad1e5cffd2"
    assert blake3(message).hexdigest() == begin


@pytest.mark.parametrize(
    "other",
    [
        ARRAY.reshape(3, 2),
        ARRAY.reshape(6),
        ARRAY.T,
        ARRAY.view(np.int32),
        ARRAY.astype(np.float64),
        ARRAY[:, ::-1],
        np.nextafter(ARRAY, np.float32(9)),
    ],
    ids=["shape", "axes", "transposed", "type", "precision", "order", "values"],
)
def test_any_other_array_has_another_digest(other: NDArray[np.generic]) -> None:
    assert array_digest(other) != array_digest(ARRAY)


@pytest.mark.parametrize(
    "same",
    [ARRAY.astype(">f4"), np.asfortranarray(ARRAY), np.repeat(ARRAY, 2, axis=1)[:, ::2]],
    ids=["byte order", "memory order", "strides"],
)
def test_the_same_numbers_have_the_same_digest_however_they_lie_in_memory(
    same: NDArray[np.float32],
) -> None:
    assert array_digest(same) == array_digest(ARRAY)


def test_a_document_is_digested_without_the_order_of_its_keys_but_with_that_of_lists() -> None:
    assert json_digest({"a": 1, "b": [1, 2]}) == json_digest({"b": [1, 2], "a": 1})
    assert json_digest({"a": 1, "b": [1, 2]}) != json_digest({"a": 1, "b": [2, 1]})
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_digest([float("nan")])


def test_weights_are_digested_with_their_names_and_without_their_order() -> None:
    a, b = torch.ones(2), torch.zeros(2)
    assert state_digest({"a": a, "b": b}) == state_digest({"b": b, "a": a})
    assert state_digest({"a": a, "b": b}) != state_digest({"a": b, "b": a})
    assert state_digest({"a": a, "b": b}) != state_digest({"a": a, "c": b})
    assert state_digest({"a": a}) != state_digest({"a": a.half()})
    assert state_digest({"a": a.requires_grad_()}) == state_digest({"a": torch.ones(2)})
