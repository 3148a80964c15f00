"""spconv's backward on a CPU equals autograd through dense convolution."""

import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from shared.config.preset import LidarBranch, PointGrid
from stage1_extract.backbones.lidar_backbone import build_sparse_encoder, use_native_convolutions
from tests.stage1_extract.backbones.random_weights import randomise
from tests.stage1_extract.backbones.test_sparse_encoder_dense import (
    Sites,
    dense_encoder,
    in_a_corner,
)

Z, Y, X = 41, 32, 32
GRID = PointGrid(
    point_range_m=(0.0, 0.0, 0.0, 32.0, 32.0, 40.0),
    voxel_m=(1.0, 1.0, 1.0),
    sparse_shape=(Z, Y, X),
)
LIDAR = LidarBranch(
    encoder_channels=((4, 4, 6), (6, 6, 8), (8, 8, 10), (10, 10)),
    encoder_out_channels=7,
    second_channels=(2, 2),
    second_layers=(1, 1),
)
SAMPLES = 3
# Largest error over the largest value of a gradient, float32 against float64. A ReLU next to 0 may
# open in one and not in the other, so the sites are few: 1.3e-6 measured.
TOLERANCE = 1e-5
NOTICED = 0.05


@pytest.fixture(scope="module")
def encoder() -> nn.Module:
    module = build_sparse_encoder(GRID, LIDAR).requires_grad_(False).eval()
    use_native_convolutions(module)
    randomise(module)
    return module.requires_grad_(True)


@pytest.fixture(scope="module")
def sites() -> Tensor:
    return in_a_corner(SAMPLES)


@pytest.fixture(scope="module")
def features(sites: Tensor) -> Tensor:
    return torch.randn(len(sites), 5, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def slopes() -> Tensor:
    """The gradient that reaches the BEV map, (B, C, Y, X), different in every place."""
    return torch.randn(SAMPLES, 14, Y // 8, X // 8, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def sparse_gradients(
    encoder: nn.Module, sites: Tensor, features: Tensor, slopes: Tensor
) -> dict[str, Tensor]:
    inputs = features.clone().requires_grad_()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Using a non-tuple sequence")
        encoder(inputs, sites.int(), SAMPLES).backward(slopes)
    assert inputs.grad is not None
    gradients = {name: p.grad for name, p in encoder.named_parameters() if p.grad is not None}
    return {**gradients, "features": inputs.grad}


@pytest.fixture(scope="module")
def dense_gradients(
    encoder: nn.Module, sites: Tensor, features: Tensor, slopes: Tensor
) -> dict[str, Tensor]:
    trained = dict(encoder.named_parameters())
    weights = {
        name: tensor.detach().double().requires_grad_(name in trained)
        for name, tensor in encoder.state_dict().items()
    }
    inputs = features.double().requires_grad_()
    b, z, y, x = sites.unbind(dim=1)
    values = torch.zeros(SAMPLES, Z, Y, X, 5, dtype=torch.float64).index_put((b, z, y, x), inputs)
    occupied = torch.zeros(SAMPLES, 1, Z, Y, X, dtype=torch.float64)
    occupied[b, :, z, y, x] = 1
    dense_encoder(Sites(values.permute(0, 4, 1, 2, 3), occupied), weights).backward(slopes.double())
    gradients = {name: weights[name].grad for name in trained} | {"features": inputs.grad}
    return {name: gradient for name, gradient in gradients.items() if gradient is not None}


def gaps(gradients: dict[str, Tensor], expected: dict[str, Tensor]) -> Iterator[float]:
    for name, gradient in gradients.items():
        scale = expected[name].abs().max()
        assert scale > 0, name
        yield float((gradient.double() - expected[name]).abs().max() / scale)


def test_every_gradient_equals_that_of_dense_convolution(
    encoder: nn.Module, sparse_gradients: dict[str, Tensor], dense_gradients: dict[str, Tensor]
) -> None:
    assert sparse_gradients.keys() == dense_gradients.keys()
    assert len(sparse_gradients) == len(list(encoder.parameters())) + 1 == 64
    assert max(gaps(sparse_gradients, dense_gradients)) <= TOLERANCE


def test_it_would_notice_a_gradient_in_a_wrong_layout(
    sparse_gradients: dict[str, Tensor], dense_gradients: dict[str, Tensor]
) -> None:
    name = "encoder_layers.encoder_layer3.0.conv1.weight"
    right = sparse_gradients[name]
    for wrong in (right.transpose(0, 4), right.transpose(1, 3), right.flip(1, 2, 3)):
        assert next(gaps({name: wrong}, dense_gradients)) > NOTICED
