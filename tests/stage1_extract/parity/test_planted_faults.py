"""Every planted fault is refused and honest noise accepted, on a CPU and with a GPU's noise."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks.validation.parity_margins.simulated_worlds import (
    CPU,
    OTHER_CPU,
    OTHER_GPU,
    SAME_GPU,
    Source,
    World,
    on_cpu,
    stored,
)
from cache.reader import CachedFeatures
from shared.data.features import Annotations, FeatureSource, FrameFeatures, as_floats
from stage1_extract.backbones.frozen import FrozenBackbones
from stage1_extract.backbones.live import LiveFeatures, RawBatch
from stage1_extract.backbones.weights import frozen_backbones
from stage1_extract.nuscenes.nuscenes_tables import read_tables
from stage1_extract.nuscenes.records import SampleRecord
from stage1_extract.preprocessing.images import normalised
from stage1_extract.preprocessing.raw_frames import RawFrame
from stage1_extract.preprocessing.voxels import batch_voxels

Edit = Callable[[FrameFeatures], FrameFeatures]
Plant = Callable[[Source], Source]

WORLDS = {"cpu": CPU, "other cpu": OTHER_CPU, "same gpu": SAME_GPU, "other gpu": OTHER_GPU}
SMALL_STEP = 1e-3  # norm of a step of SGD over the norm of the weights


@pytest.fixture(scope="module")
def records(synthetic_root: Path) -> list[SampleRecord]:
    return list(read_tables(synthetic_root, "v1.0-mini", "mini_train"))


@pytest.fixture(scope="module")
def live(tiny_store: Path, records: list[SampleRecord]) -> Source:
    preset = CachedFeatures(tiny_store).preset
    return on_cpu(LiveFeatures(records, frozen_backbones(preset, None)[0]))


@pytest.fixture(params=WORLDS, scope="module")
def world(request: pytest.FixtureRequest) -> World:
    return WORLDS[request.param]


@pytest.fixture(scope="module")
def source(world: World, live: Source) -> Source:
    """The live side in a world."""
    return world.run(live)


def refused(world: World, live: Source, cached: FeatureSource) -> set[str]:
    """Return the quantities outside their tolerance."""
    return {row.quantity for row in world.compare(live, cached) if not row.passed}


def test_honest_noise_is_accepted_also_by_the_detector(world: World, source: Source) -> None:
    rows = world.compare(source, stored(source), detector_samples=2)

    assert [row.quantity for row in rows if not row.passed] == []
    assert {"camera/stride16", "loss loss_cls", "decoded boxes"} <= {row.quantity for row in rows}


def test_the_simulated_noise_is_that_of_the_gpu(live: Source) -> None:
    source = OTHER_GPU.run(live)
    rows = {row.quantity: row for row in OTHER_GPU.compare(source, stored(source))}

    for name in ("camera/stride16", "camera/stride32", "lidar/stride8", "lidar/stride16"):
        assert rows[f"{name}, values that differ"].difference > 0.5
        assert 1 < rows[name].difference < 3


def test_a_store_on_disk_is_accepted(tiny_store: Path, live: Source) -> None:
    assert refused(CPU, live, CachedFeatures(tiny_store)) == set()


def every_row(edit: Edit) -> Plant:
    def plant(source: Source) -> Source:
        return Source(source, lambda *place: edit(source.read_sample(*place)))

    return plant


def single_row(edit: Edit) -> Plant:
    """Change only the last sample."""

    def plant(source: Source) -> Source:
        def read(token: str, variant: int, size: int) -> FrameFeatures:
            sample = source.read_sample(token, variant, size)
            return edit(sample) if token == source.tokens[-1] else sample

        return Source(source, read)

    return plant


def with_maps(sample: FrameFeatures, **maps: NDArray[Any]) -> FrameFeatures:
    return replace(sample, maps={**sample.maps, **maps})


def shifted_channel(sample: FrameFeatures) -> FrameFeatures:
    values = as_floats(sample.maps["camera/stride16"]).copy()  # (V, C, H, W)
    channel = int(np.argsort(values[2].std(axis=(-2, -1)))[values.shape[1] // 2])
    values[2, channel] = np.roll(values[2, channel], 1, axis=-1)
    return with_maps(sample, **{"camera/stride16": values})


def swapped_cameras(sample: FrameFeatures) -> FrameFeatures:
    order = [1, 0, 2, 3, 4, 5]
    names = [name for name in sample.maps if name.startswith("camera")]
    return with_maps(sample, **{name: as_floats(sample.maps[name])[order] for name in names})


def scaled(name: str, factor: float) -> Edit:
    def edit(sample: FrameFeatures) -> FrameFeatures:
        values = as_floats(sample.maps[name])
        return with_maps(sample, **{name: (values * np.float32(factor)).astype(values.dtype)})

    return edit


def with_nan(sample: FrameFeatures) -> FrameFeatures:
    values = as_floats(sample.maps["lidar/stride8"]).copy()
    values[1, 2, 3] = np.nan
    return with_maps(sample, **{"lidar/stride8": values})


def moved_camera(sample: FrameFeatures) -> FrameFeatures:
    matrices = sample.frame.img_from_lidar.copy()
    matrices[0, 0, 3] += 1e-9
    return replace(sample, frame=replace(sample.frame, img_from_lidar=matrices))


def with_annotations(change: Callable[[Annotations], Annotations]) -> Edit:
    def edit(sample: FrameFeatures) -> FrameFeatures:
        annotations = change(sample.frame.annotations)
        return replace(sample, frame=replace(sample.frame, annotations=annotations))

    return edit


def other_label(annotations: Annotations) -> Annotations:
    labels = annotations.labels.copy()
    labels[0] = (labels[0] + 1) % 10
    return replace(annotations, labels=labels)


def lost_box(annotations: Annotations) -> Annotations:
    return Annotations(
        boxes_lidar=annotations.boxes_lidar[1:],
        labels=annotations.labels[1:],
        lidar_points=annotations.lidar_points[1:],
        radar_points=annotations.radar_points[1:],
    )


def wrong_row(source: Source) -> Source:
    """Give the first sample the maps of the second."""

    def read(token: str, variant: int, size: int) -> FrameFeatures:
        sample = source.read_sample(token, variant, size)
        if token != source.tokens[0]:
            return sample
        return replace(sample, maps=source.read_sample(source.tokens[1], variant, size).maps)

    return Source(source, read)


FRAME = "geometry and annotations"
FAULTS: dict[str, tuple[Plant, str]] = {
    "features of another sample": (wrong_row, "camera/stride16"),
    "a channel shifted by a pixel": (single_row(shifted_channel), "camera/stride16"),
    "two cameras swapped": (single_row(swapped_cameras), "camera/stride32"),
    "a camera map scaled by 1%": (every_row(scaled("camera/stride16", 1.01)), "camera/stride16"),
    "a LiDAR map scaled by 1%": (single_row(scaled("lidar/stride16", 0.99)), "lidar/stride16"),
    "NaN": (single_row(with_nan), "lidar/stride8"),
    "a camera matrix": (single_row(moved_camera), FRAME),
    "a label": (single_row(with_annotations(other_label)), FRAME),
    "a lost box": (single_row(with_annotations(lost_box)), FRAME),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_store_is_refused(fault: str, world: World, source: Source) -> None:
    plant, quantity = FAULTS[fault]

    assert quantity in refused(world, source, plant(stored(source)))


def test_a_fault_cannot_raise_what_is_allowed(live: Source) -> None:
    source = OTHER_GPU.run(live)
    good = {
        (r.quantity, r.batch_size): r.allowed for r in OTHER_GPU.compare(source, stored(source))
    }

    rows = OTHER_GPU.compare(source, every_row(swapped_cameras)(stored(source)))

    assert {(row.quantity, row.batch_size): row.allowed for row in rows} == good


class WrongImages(LiveFeatures):
    """Backbones that get images after a change."""

    change: Callable[[torch.Tensor], torch.Tensor]

    def maps(self, batch: RawBatch) -> dict[str, torch.Tensor]:
        def wrong(*args: Any) -> torch.Tensor:
            return type(self).change(normalised(*args))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("stage1_extract.backbones.live.normalised", wrong)
            return super().maps(batch)


class SwappedColours(WrongImages):
    change = staticmethod(lambda images: images.flip(-3))


class OtherMean(WrongImages):
    """A mean of 1 of 255 more, as a rounded constant gives."""

    change = staticmethod(lambda images: images - 1 / 58)


class OtherSpread(WrongImages):
    """A standard deviation 2% off."""

    change = staticmethod(lambda images: images * 1.02)


@pytest.fixture(scope="module")
def wrongly_normalised(
    live: Source, records: list[SampleRecord]
) -> Callable[[type[WrongImages]], Source]:
    return cache(lambda wrong: on_cpu(wrong(records, frozen_backbones(live.preset, None)[0])))


@pytest.mark.parametrize("wrong", [SwappedColours, OtherMean, OtherSpread])
def test_wrong_normalisation_is_refused(
    wrong: type[WrongImages],
    world: World,
    source: Source,
    wrongly_normalised: Callable[[type[WrongImages]], Source],
) -> None:
    faulty = world.run(wrongly_normalised(wrong))

    assert "camera/stride16, mean" in refused(world, source, stored(faulty))


@pytest.fixture(scope="module")
def other_seed(live: Source, records: list[SampleRecord]) -> Source:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stage1_extract.backbones.weights.SEED", 1)
        return on_cpu(LiveFeatures(records, frozen_backbones(live.preset, None)[0]))


@pytest.fixture(scope="module")
def after_a_step(live: Source, records: list[SampleRecord]) -> Source:
    frozen, _ = frozen_backbones(live.preset, None)
    source = LiveFeatures(records, frozen)
    take_small_step(frozen, source.raw[0, 0])
    return on_cpu(source)


def take_small_step(frozen: FrozenBackbones, raw: RawFrame) -> None:
    """Take a step of SGD on the mean square of all maps, of `SMALL_STEP` of the weights' norm."""
    assert raw.images is not None
    assert raw.voxels is not None
    frozen.requires_grad_(True)
    assert frozen.preset.camera is not None
    images = normalised(raw.images[None], frozen.preset.camera)
    maps = frozen.maps(images, batch_voxels([raw.voxels]))
    torch.stack([values.square().mean() for values in maps.values()]).sum().backward()
    with torch.no_grad():
        moved = [weight for weight in frozen.parameters() if weight.grad is not None]
        size = torch.stack([weight.norm() for weight in moved]).norm()
        slope = torch.stack([weight.grad.norm() for weight in moved]).norm()  # type: ignore[union-attr]
        for weight in moved:
            weight -= SMALL_STEP * size / slope * weight.grad
    frozen.requires_grad_(False)


@pytest.mark.parametrize("weights", ["other_seed", "after_a_step"])
def test_stale_weights_are_refused(
    weights: str, world: World, source: Source, request: pytest.FixtureRequest
) -> None:
    stale: Source = request.getfixturevalue(weights)

    assert refused(world, source, stored(world.run(stale)))
