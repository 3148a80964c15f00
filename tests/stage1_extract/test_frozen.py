"""The frozen part gives what mmdet3d's modules give, at any batch size, and nothing moves it."""

import numpy as np
import pytest
import torch

from shared.checkpoint_table import FROZEN_PARTS
from shared.config import Preset
from shared.errors import FrozenError
from shared.presets import tiny
from stage1_extract.frozen import FrozenBackbones
from stage1_extract.seeded_weights import seed_weights
from stage1_extract.voxels import Voxelizer, Voxels, batch_voxels

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def preset() -> Preset:
    return tiny()


@pytest.fixture(scope="module")
def frozen(preset: Preset) -> FrozenBackbones:
    backbones = FrozenBackbones(preset)
    seed_weights(backbones, 0)
    backbones.to_device(CPU)
    return backbones


def cloud(seed: int, points: int) -> torch.Tensor:
    random = np.random.default_rng(seed)
    xyz = random.uniform((-20, -20, -3), (20, 20, 1), (points, 3))
    rest = random.uniform((0, 0), (255, 0.5), (points, 2))
    return torch.from_numpy(np.concatenate([xyz, rest], axis=1).astype(np.float32))


def inputs(preset: Preset, seeds: tuple[int, ...]) -> tuple[torch.Tensor, Voxels]:
    voxelizer = Voxelizer(preset.grid, preset.lidar, CPU)
    size = (6, 3, preset.camera.height_px, preset.camera.width_px)
    images = [torch.randn(size, generator=torch.Generator().manual_seed(s)) for s in seeds]
    clouds = [voxelizer(cloud(s, 500 + 100 * s)) for s in seeds]
    return torch.stack(images), batch_voxels(clouds)


def test_the_maps_have_the_shapes_the_preset_promises(
    preset: Preset, frozen: FrozenBackbones
) -> None:
    maps = frozen(*inputs(preset, (0, 1)))

    assert {name: tuple(values.shape[1:]) for name, values in maps.items()} == {
        one.name: one.shape for one in preset.maps
    }
    assert all(values.isfinite().all() for values in maps.values())


def test_a_batch_of_three_gives_what_its_samples_give_alone(
    preset: Preset, frozen: FrozenBackbones
) -> None:
    together = frozen(*inputs(preset, (0, 1, 2)))

    for i in range(3):
        alone = frozen(*inputs(preset, (i,)))
        for name, values in alone.items():
            torch.testing.assert_close(together[name][i], values[0], rtol=1e-5, atol=1e-5)


def test_extraction_leaves_every_parameter_and_buffer_as_it_was(
    preset: Preset, frozen: FrozenBackbones
) -> None:
    before = frozen.digests()

    frozen(*inputs(preset, (0, 1)))

    assert frozen.digests() == before
    assert set(before) == set(FROZEN_PARTS)


def test_the_digest_sees_one_bit_of_one_buffer(preset: Preset) -> None:
    frozen = FrozenBackbones(preset)
    seed_weights(frozen, 0)
    before = frozen.digests()

    buffer = frozen.pts_backbone.state_dict()["blocks.0.1.running_mean"]
    buffer[0] = torch.nextafter(buffer[0], buffer[0] + 1)

    after = frozen.digests()
    assert after["pts_backbone"] != before["pts_backbone"]
    assert after["img_backbone"] == before["img_backbone"]


def test_train_mode_is_refused(frozen: FrozenBackbones) -> None:
    with pytest.raises(FrozenError, match="stay in eval mode"):
        frozen.train()
    assert not any(module.training for module in frozen.modules())


def test_nothing_in_it_asks_for_a_gradient(preset: Preset, frozen: FrozenBackbones) -> None:
    maps = frozen(*inputs(preset, (0,)))

    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    assert not any(values.requires_grad for values in maps.values())


def test_seeded_weights_are_the_same_whatever_was_drawn_before(preset: Preset) -> None:
    one, other, third = (FrozenBackbones(preset) for _ in range(3))
    seed_weights(one, 0)
    torch.randn(7)
    np.random.default_rng().random(3)
    seed_weights(other, 0)
    seed_weights(third, 1)

    assert one.digests() == other.digests()
    assert one.digests() != third.digests()


def test_the_sparse_encoder_equals_dense_convolution(preset: Preset) -> None:
    """On a small full grid every SubMConv3d is an ordinary convolution: compare layer by layer."""
    import spconv.pytorch as spconv

    frozen = FrozenBackbones(preset)
    seed_weights(frozen, 0)
    frozen.to_device(CPU)
    layer = frozen.pts_middle_encoder.conv_input[0]
    assert isinstance(layer, spconv.SubMConv3d)
    batch, z, y, x = 2, 3, 4, 5
    where = torch.stack(
        torch.meshgrid(*(torch.arange(n) for n in (batch, z, y, x)), indexing="ij"), -1
    ).reshape(-1, 4)
    values = torch.randn(len(where), 5, generator=torch.Generator().manual_seed(0))
    sparse = spconv.SparseConvTensor(values, where.int(), [z, y, x], batch)

    with torch.inference_mode():
        ours = layer(sparse).dense()
        dense = values.reshape(batch, z, y, x, 5).permute(0, 4, 1, 2, 3)
        weight = layer.weight.permute(0, 4, 1, 2, 3)  # (out, z, y, x, in) to torch's order
        expected = torch.nn.functional.conv3d(dense, weight, padding=1)

    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def test_the_head_config_is_not_needed_to_build_it(preset: Preset) -> None:
    names = FrozenBackbones(preset).state_dict()
    assert {name.split(".")[0] for name in names} == set(FROZEN_PARTS)
