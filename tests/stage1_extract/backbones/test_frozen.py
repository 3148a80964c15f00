"""The frozen part gives a sample the same maps at any batch size, and nothing changes it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from shared.checkpoint.checkpoint_table import FROZEN_PARTS
from shared.config.preset import Preset
from shared.config.preset_catalogue import tiny
from shared.errors import FrozenError
from stage1_extract.backbones.frozen import FrozenBackbones
from stage1_extract.backbones.live import fixed_algorithms
from stage1_extract.backbones.seeded_weights import seed_weights
from stage1_extract.preprocessing.voxels import Voxelizer, Voxels, batch_voxels

CPU = torch.device("cpu")

# Largest error over the largest value: 0 measured, but larger matrices of a batch may change the
# order of float32 sums.
TOLERANCE = 1e-6


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
    voxelizer = Voxelizer(preset.grid, preset.lidar)
    size = (6, 3, preset.camera.height_px, preset.camera.width_px)
    images = [torch.randn(size, generator=torch.Generator().manual_seed(s)) for s in seeds]
    clouds = [voxelizer(cloud(s, 500 + 100 * s)) for s in seeds]
    return torch.stack(images), batch_voxels(clouds)


def test_the_maps_have_the_shapes_the_preset_promises(
    preset: Preset, frozen: FrozenBackbones
) -> None:
    maps = frozen(*inputs(preset, (0, 1)))

    assert {name: tuple(values.shape[1:]) for name, values in maps.items()} == {
        spec.name: spec.shape for spec in preset.maps
    }
    assert all(values.isfinite().all() for values in maps.values())


def test_a_batch_of_three_gives_what_its_samples_give_alone(
    preset: Preset, frozen: FrozenBackbones
) -> None:
    together = frozen(*inputs(preset, (0, 1, 2)))

    for i in range(3):
        alone = frozen(*inputs(preset, (i,)))
        for name, values in alone.items():
            error = (together[name][i] - values[0]).abs().max() / values.abs().max()
            assert error <= TOLERANCE


def test_a_sample_without_a_voxel_leaves_the_others_as_they_are(
    preset: Preset, frozen: FrozenBackbones
) -> None:
    images, alone = inputs(preset, (0,))
    voxelizer = Voxelizer(preset.grid, preset.lidar)
    nothing = voxelizer(torch.zeros(0, 5))
    something = voxelizer(cloud(0, 500))

    maps = frozen(images.expand(3, -1, -1, -1, -1), batch_voxels([nothing, something, nothing]))

    for name, values in frozen(images, alone).items():
        error = (maps[name][1] - values[0]).abs().max() / values.abs().max()
        assert error <= TOLERANCE


def test_voxels_beyond_the_sparse_shape_change_nothing(preset: Preset) -> None:
    """The grid of r50 makes such voxels; here the shape is smaller than the range."""
    grid = replace(preset.grid, sparse_shape=(41, 272, 272))
    frozen = FrozenBackbones(replace(preset, grid=grid))
    seed_weights(frozen, 0)
    frozen.to_device(CPU)
    # If the first were passed on, spconv would take it for (20, 100, 6), next to the second.
    sites = torch.tensor([[20, 99, 272 + 6], [20, 100, 5]])
    low_m, voxel_m = torch.tensor(grid.point_range_m[:3]), torch.tensor(grid.voxel_m)
    points = torch.nn.functional.pad(low_m + (sites.flip(1) + 0.5) * voxel_m, (0, 2), value=1.0)
    voxelizer = Voxelizer(grid, preset.lidar)
    assert torch.equal(voxelizer.group(points).coordinates, sites.int())

    bev = frozen.encode_voxels(batch_voxels([voxelizer(points)]))

    assert bev.any()
    assert torch.equal(bev, frozen.encode_voxels(batch_voxels([voxelizer(points[1:])])))


def test_the_coordinates_of_a_batch_are_stored_row_by_row(preset: Preset) -> None:
    """Otherwise spconv silently misreads them: it ignores strides."""
    _, voxels = inputs(preset, (0, 1))

    assert voxels.coordinates.is_contiguous()
    assert voxels.means.is_contiguous()


def test_a_batch_without_any_voxel_gives_what_an_empty_grid_gives(
    preset: Preset, frozen: FrozenBackbones
) -> None:
    """Zeros from the sparse encoder; SECOND then gives its biases, equal in every inner cell."""
    voxelizer = Voxelizer(preset.grid, preset.lidar)
    nothing = batch_voxels([voxelizer(torch.zeros(0, 5))] * 2)

    bev = frozen.encode_voxels(nothing)

    cells = preset.grid.bev_cells
    assert bev.shape == (2, 2 * preset.lidar.encoder_out_channels, cells, cells)
    assert not bev.any()
    beside = frozen.encode_voxels(
        batch_voxels([voxelizer(torch.zeros(0, 5)), voxelizer(cloud(0, 9))])
    )
    assert torch.equal(beside[0], bev[0])
    assert beside[1].any()


def test_extraction_leaves_every_parameter_and_buffer_as_it_was(
    preset: Preset, frozen: FrozenBackbones
) -> None:
    before = frozen.digests()

    frozen(*inputs(preset, (0, 1)))

    assert frozen.digests() == before
    assert set(before) == set(FROZEN_PARTS)


def test_the_digest_notices_a_single_bit_of_a_buffer(preset: Preset) -> None:
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
    assert all(values.is_inference() for values in maps.values())


def test_maps_pass_gradients_to_the_modules_that_a_caller_unfreezes(preset: Preset) -> None:
    """Training with the backbones in every step relies on it."""
    backbones = FrozenBackbones(preset)
    seed_weights(backbones, 0)
    backbones.to_device(CPU)
    backbones.pts_backbone.requires_grad_(True)

    maps = backbones.maps(*inputs(preset, (0,)))
    sum(values.square().mean() for values in maps.values()).backward()

    with_gradient = {
        name.split(".")[0]
        for name, parameter in backbones.named_parameters()
        if parameter.grad is not None and parameter.grad.any()
    }
    assert with_gradient == {"pts_backbone"}


def test_algorithms_are_not_tried_out_and_float32_is_exact_while_features_are_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cudnn = torch.backends.cudnn
    monkeypatch.setattr(cudnn, "allow_tf32", True)  # torch's default
    before = cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32
    with fixed_algorithms():
        assert (cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32) == (False, True, False)
    assert (cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32) == before


@pytest.mark.gpu
def test_the_stream_of_the_lidar_branch_changes_no_bit(preset: Preset) -> None:
    backbones = FrozenBackbones(preset)
    seed_weights(backbones, 0)
    backbones.to_device(torch.device("cuda"))
    batches = [inputs(preset, seeds) for seeds in ((0, 1), (2, 3), (4, 5))]
    with fixed_algorithms(), torch.inference_mode():
        expected = []
        for images, voxels in batches:
            maps = backbones.maps(images.cuda(), voxels.to(backbones.device))
            torch.cuda.synchronize()
            expected.append({name: values.cpu() for name, values in maps.items()})
        # Batch after batch without a wait, on inputs of the host and of the device.
        inputs_on = {
            "cpu": batches,
            "cuda": [(i.cuda(), v.to(backbones.device)) for i, v in batches],
        }
        for place, given in inputs_on.items():
            queued = [backbones(*batch) for _ in range(3) for batch in given]
            for number, maps in enumerate(queued):
                for name, values in maps.items():
                    same = expected[number % len(batches)][name]
                    assert torch.equal(values.cpu(), same), (place, number, name)


def test_seeded_weights_are_the_same_whatever_was_drawn_before(preset: Preset) -> None:
    first, second, reseeded = (FrozenBackbones(preset) for _ in range(3))
    seed_weights(first, 0)
    torch.randn(7)
    np.random.default_rng().random(3)
    seed_weights(second, 0)
    seed_weights(reseeded, 1)

    assert first.digests() == second.digests()
    assert first.digests() != reseeded.digests()


def test_the_head_config_is_not_needed_to_build_it(preset: Preset) -> None:
    names = FrozenBackbones(preset).state_dict()
    assert {name.split(".")[0] for name in names} == set(FROZEN_PARTS)
