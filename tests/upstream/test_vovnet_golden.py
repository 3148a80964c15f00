"""Our VoVNet has the official names and, with a golden set's weights, the official numbers."""

import re
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from stage1_extract.backbones.vovnet import VoVNet99

OURS = "V-99-eSE"
PUBLISHED_STEM = 64
FORWARD = 1e-5  # of the largest value of a map; measured 0, and 7e-7 against float64
CHECKSUM = 1e-9  # of the sum's terms: float64 sums of the same float32 values, in any order


@pytest.fixture(scope="module")
def vovnet(vovnet_golden) -> VoVNet99:
    spec = vovnet_golden.document["cfg"]["spec_name"]
    if spec != OURS:
        pytest.skip(f"{spec} is not the spec this project builds, {OURS}")
    model = VoVNet99(PUBLISHED_STEM)
    recipe = vovnet_golden.document["recipe"]
    drawn = {key: _draw(recipe, key, value) for key, value in model.state_dict().items()}
    model.load_state_dict(drawn, strict=True)
    return model.eval().requires_grad_(False)


def test_names_and_shapes_are_the_official_ones(vovnet, vovnet_golden) -> None:
    ours = {key: list(value.shape) for key, value in vovnet.state_dict().items()}
    assert ours == vovnet_golden.document["keys"]


def test_weights_drawn_by_the_recipe_have_the_checksums(vovnet, vovnet_golden) -> None:
    state = vovnet.state_dict()
    checksums = vovnet_golden.document["checksums"]
    assert checksums
    for key, (total, first, last) in checksums.items():
        values = state[key].double().flatten()
        assert (values[0].item(), values[-1].item()) == (first, last), key
        assert values.sum().item() == pytest.approx(
            total, rel=0, abs=CHECKSUM * values.abs().sum().item()
        ), key


def test_every_stored_map_is_the_official_one(vovnet, vovnet_golden) -> None:
    maps: dict[str, Tensor] = {}
    hooks = [
        stage.register_forward_hook(lambda _, __, output, name=name: maps.update({name: output}))
        for name, stage in vovnet.named_children()
    ]
    returned = vovnet(vovnet_golden.arrays["in/x"])
    for hook in hooks:
        hook.remove()

    assert all(
        level is maps[name] for name, level in zip(("stage4", "stage5"), returned, strict=True)
    )
    stored = vovnet_golden.state("mid/") | vovnet_golden.state("out/")
    assert {"stage4", "stage5"} <= set(stored)
    for name, official in stored.items():
        atol = FORWARD * official.abs().max().item()
        torch.testing.assert_close(maps[name], official, rtol=0, atol=atol)


def _draw(recipe: dict[str, Any], key: str, like: Tensor) -> Tensor:
    """Return the tensor called `key` as the golden's recipe describes it."""
    shape = tuple(like.shape)
    if key.endswith("num_batches_tracked"):
        return torch.zeros_like(like)
    r: NDArray[np.float64] = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape)
    if len(shape) == 4:
        values = r * (_factor(recipe["conv_weight_4d"]) / np.sqrt(np.prod(shape[1:])))
    elif key.endswith("/norm.weight"):
        values = 1 + _factor(recipe["bn_weight"]) * r
    elif key.endswith("running_var"):
        values = 1 + _factor(recipe["bn_running_var"]) * np.abs(r)
    else:
        values = _factor(recipe["others"]) * r
    return torch.from_numpy(values.astype(np.float32))


def _factor(sentence: str) -> float:
    """Return the only decimal fraction in a sentence of the recipe, e.g. 0.1 in "1 + 0.1*r"."""
    (number,) = re.findall(r"\d+\.\d+", sentence)
    return float(number)
