"""The sparse encoder equals dense 3D convolution that looks at occupied sites only.

The twin below is the whole encoder in float64. A submanifold convolution is a dense one whose
output is kept where the input was occupied; a strided one also occupies every site that its kernel
reaches from an occupied one.
"""

import copy
import warnings
from collections.abc import Callable, Mapping
from typing import NamedTuple

import pytest
import torch
from spconv.pytorch import SubMConv3d
from torch import Tensor, nn
from torch.nn import functional

from shared.config.preset import LidarBranch, PointGrid
from stage1_extract.backbones.lidar_backbone import build_sparse_encoder, use_native_convolutions

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
BATCH_NORM_EPS = 1e-3
STRIDED_PADDINGS = ((1, 1, 1), (1, 1, 1), (0, 1, 1))  # of the first three stages
OUT_STRIDE = (2, 1, 1)

# Largest error over the largest value. spconv adds up to 270 products in float32, in each of 21
# layers: 2.3e-7 to 5.4e-7 measured; other machines add in a different order.
TOLERANCE = 2e-6
NOTICED = 0.05  # a wrong layout gives 0.22 or more

Weights = Mapping[str, Tensor]


class Sites(NamedTuple):
    """A sparse tensor in dense form.

    Args:
        values: (B, C, Z, Y, X) float64, 0 where there is no site.
        occupied: (B, 1, Z, Y, X) float64, 1 where there is a site.
    """

    values: Tensor
    occupied: Tensor


def kernel(weights: Weights, name: str) -> Tensor:
    """Return a weight in torch's order; spconv 2 has (out, z, y, x, in)."""
    return weights[f"{name}.weight"].permute(0, 4, 1, 2, 3)


def norm(sites: Sites, weights: Weights, name: str) -> Sites:
    mean, var, gain, bias = (
        weights[f"{name}.{field}"].view(1, -1, 1, 1, 1)
        for field in ("running_mean", "running_var", "weight", "bias")
    )
    values = (sites.values - mean) / (var + BATCH_NORM_EPS).sqrt() * gain + bias
    return Sites(values * sites.occupied, sites.occupied)


def relu(sites: Sites) -> Sites:
    return Sites(sites.values.relu(), sites.occupied)


def submanifold(sites: Sites, weight: Tensor) -> Sites:
    values = functional.conv3d(sites.values, weight, padding=1)
    return Sites(values * sites.occupied, sites.occupied)


def strided(
    sites: Sites, weight: Tensor, stride: tuple[int, ...], padding: tuple[int, ...]
) -> Sites:
    reach = torch.ones(1, 1, *weight.shape[2:], dtype=torch.float64)
    reached = functional.conv3d(sites.occupied, reach, stride=stride, padding=padding)
    values = functional.conv3d(sites.values, weight, stride=stride, padding=padding)
    return Sites(values, (reached > 0).double())


def basic_block(sites: Sites, weights: Weights, name: str) -> Sites:
    inner = submanifold(sites, kernel(weights, f"{name}.conv1"))
    inner = relu(norm(inner, weights, f"{name}.bn1"))
    inner = norm(submanifold(inner, kernel(weights, f"{name}.conv2")), weights, f"{name}.bn2")
    return relu(Sites(inner.values + sites.values, sites.occupied))


def dense_encoder(sites: Sites, weights: Weights) -> Tensor:
    """Return the BEV map, (B, C * D, Y, X) float64 with D = 2 heights, channel c * D + d."""
    sites = submanifold(sites, kernel(weights, "conv_input.0"))
    sites = relu(norm(sites, weights, "conv_input.1"))
    for stage in range(1, 5):
        name = f"encoder_layers.encoder_layer{stage}"
        sites = basic_block(sites, weights, f"{name}.0")
        sites = basic_block(sites, weights, f"{name}.1")
        if stage < 4:
            weight, padding = kernel(weights, f"{name}.2.0"), STRIDED_PADDINGS[stage - 1]
            sites = strided(sites, weight, stride=(2, 2, 2), padding=padding)
            sites = relu(norm(sites, weights, f"{name}.2.1"))
    sites = strided(sites, kernel(weights, "conv_out.0"), stride=OUT_STRIDE, padding=(0, 0, 0))
    values = relu(norm(sites, weights, "conv_out.1")).values
    samples, channels, heights, rows, columns = values.shape
    bev = torch.zeros(samples, channels * heights, rows, columns, dtype=torch.float64)
    for channel in range(channels):
        for height in range(heights):
            bev[:, channel * heights + height] = values[:, channel, height]
    return bev


@pytest.fixture(scope="module")
def encoder() -> nn.Module:
    """An encoder with random weights and BatchNorm statistics, no two layers alike."""
    module = build_sparse_encoder(GRID, LIDAR).requires_grad_(False).eval()
    use_native_convolutions(module)
    random = torch.Generator().manual_seed(0)
    for name, tensor in module.state_dict().items():
        if tensor.dim() > 1:
            scale = (3 / tensor[0].numel()) ** 0.5
            tensor.copy_(scale * torch.randn(tensor.shape, generator=random))
        elif name.endswith(("weight", "running_var")):
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=random))
        elif tensor.is_floating_point():
            tensor.copy_(0.1 * torch.randn(tensor.shape, generator=random))
    return module


def sparse_bev(encoder: nn.Module, coordinates: Tensor, features: Tensor, samples: int) -> Tensor:
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Using a non-tuple sequence")
        bev: Tensor = encoder(features, coordinates.int(), samples)
    return bev


def dense_bev(weights: Weights, coordinates: Tensor, features: Tensor, samples: int) -> Tensor:
    values = torch.zeros(samples, 5, Z, Y, X, dtype=torch.float64)
    occupied = torch.zeros(samples, 1, Z, Y, X, dtype=torch.float64)
    b, z, y, x = coordinates.unbind(dim=1)
    values[b, :, z, y, x] = features.double()
    occupied[b, :, z, y, x] = 1
    weights = {name: tensor.double() for name, tensor in weights.items()}
    return dense_encoder(Sites(values, occupied), weights)


def everywhere(samples: int) -> Tensor:
    """Return (M, 4) random sites, batch z y x, 5% of the grid, in random order."""
    random = torch.Generator().manual_seed(samples)
    sites = (torch.rand(samples, Z, Y, X, generator=random) < 0.05).nonzero()
    return sites[torch.randperm(len(sites), generator=random)]


def in_a_corner(samples: int) -> Tensor:
    """Return (M, 4) sites in a corner and block that differ by axis and by sample."""
    blocks = [
        (slice(0, 3), slice(4, 11), slice(20, 32)),
        (slice(30, 40), slice(25, 32), slice(0, 2)),
    ]
    occupied = torch.zeros(samples, Z, Y, X, dtype=torch.bool)
    for sample in range(samples):
        occupied[sample][blocks[sample % 2]] = True
        occupied[sample, 15, 3 + sample, 9] = True
    return occupied.nonzero().contiguous()  # spconv ignores strides


def features_of(coordinates: Tensor) -> Tensor:
    return torch.randn(len(coordinates), 5, generator=torch.Generator().manual_seed(1))


def relative_error(values: Tensor, expected: Tensor) -> float:
    return float((values.double() - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("sites", [everywhere, in_a_corner])
def test_the_whole_encoder_equals_dense_convolution(
    encoder: nn.Module, sites: Callable[[int], Tensor], samples: int
) -> None:
    coordinates = sites(samples)
    features = features_of(coordinates)

    bev = sparse_bev(encoder, coordinates, features, samples)

    expected = dense_bev(encoder.state_dict(), coordinates, features, samples)
    assert bev.shape == expected.shape == (samples, 7 * 2, Y // 8, X // 8)
    assert torch.equal(bev != 0, expected != 0)
    assert relative_error(bev, expected) <= TOLERANCE


def test_looking_up_neighbours_once_per_stage_changes_no_bit(encoder: nn.Module) -> None:
    each_for_itself = copy.deepcopy(encoder)
    layers = [module for module in each_for_itself.modules() if isinstance(module, SubMConv3d)]
    assert len(layers) == 17
    assert len({layer.indice_key for layer in layers}) == 4
    for layer in layers:
        layer.indice_key = None
    coordinates = everywhere(samples=2)
    features = features_of(coordinates)
    bev = sparse_bev(encoder, coordinates, features, samples=2)
    assert torch.equal(bev, sparse_bev(each_for_itself, coordinates, features, samples=2))


@pytest.mark.parametrize("columns", [(0, 1, 3, 2), (0, 2, 1, 3), (3, 1, 2, 0)])
def test_it_would_notice_swapped_axes_and_mixed_samples(
    encoder: nn.Module, columns: tuple[int, ...]
) -> None:
    """The sites fit the grid even when their columns are swapped."""
    coordinates = torch.tensor([[0, 1, 2, 2], [1, 1, 9, 0], [1, 2, 9, 1], [0, 8, 1, 2]])
    features = features_of(coordinates)

    bev = sparse_bev(encoder, coordinates[:, columns].contiguous(), features, samples=3)

    expected = dense_bev(encoder.state_dict(), coordinates, features, samples=3)
    assert relative_error(bev, expected) > NOTICED


@pytest.mark.parametrize(
    "misread",
    [
        pytest.param(lambda krsc: krsc.permute(1, 2, 3, 4, 0).reshape(krsc.shape), id="rsck bytes"),
        pytest.param(lambda krsc: krsc.transpose(0, 4), id="in for out"),
        pytest.param(lambda krsc: krsc.transpose(1, 3), id="z for x"),
        pytest.param(lambda krsc: krsc.transpose(2, 3), id="y for x"),
        pytest.param(lambda krsc: krsc.flip(1, 2, 3), id="mirrored"),
    ],
)
def test_it_would_notice_one_square_layer_read_in_a_wrong_layout(
    encoder: nn.Module, misread: Callable[[Tensor], Tensor]
) -> None:
    """Shapes cannot tell: 8 channels to 8 fit in any of these orders."""
    coordinates = in_a_corner(samples=1)
    features = features_of(coordinates)
    weights = dict(encoder.state_dict())
    name = "encoder_layers.encoder_layer3.0.conv1.weight"
    right = weights[name]
    weights[name] = misread(right)
    assert weights[name].shape == right.shape == (8, 3, 3, 3, 8)

    wrong = dense_bev(weights, coordinates, features, samples=1)

    bev = sparse_bev(encoder, coordinates, features, samples=1)
    assert relative_error(bev, wrong) > NOTICED
