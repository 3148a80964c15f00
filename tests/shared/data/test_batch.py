"""A batch expands quantised maps on the model's device, into the numbers that NumPy returns."""

import numpy as np
import pytest
import torch

from shared.data.batch import BatchBuffer, collate
from shared.data.features import (
    NO_ANNOTATIONS,
    NO_CAMERAS,
    Frame,
    FrameFeatures,
    MapValues,
    QuantisedMap,
    as_floats,
)

V, C, H, W = 2, 3, 4, 5


def frame(token: str, maps: dict[str, MapValues]) -> FrameFeatures:
    return FrameFeatures(
        frame=Frame(
            token=token,
            scene="scene",
            timestamp_us=0,
            variant=0,
            img_from_lidar=NO_CAMERAS,
            ego_from_lidar=np.eye(4),
            global_from_ego=np.eye(4),
            annotations=NO_ANNOTATIONS,
        ),
        maps=maps,
    )


def quantised(seed: int, groups: tuple[int, ...]) -> QuantisedMap:
    random = np.random.default_rng(seed)
    return QuantisedMap(
        values=random.integers(0, 256, (*groups, H, W), np.uint8),
        scale=random.random(groups, np.float32),
        zero=random.standard_normal(groups, np.float32),
    )


@pytest.fixture
def frames() -> list[FrameFeatures]:
    return [
        frame(
            token,
            {"camera/stride16": quantised(i, (V, C)), "lidar/stride8": quantised(9 + i, (C,))},
        )
        for i, token in enumerate(("ant", "bee", "cow"))
    ]


def test_quantised_maps_are_moved_in_8_bit(frames: list[FrameFeatures]) -> None:
    batch = collate(frames)
    assert not batch.maps
    assert {name: quantised.values.dtype for name, quantised in batch.quantised.items()} == {
        "camera/stride16": torch.uint8,
        "lidar/stride8": torch.uint8,
    }
    assert batch.quantised["camera/stride16"].scale.shape == (3, V, C)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_on_a_device_they_are_numpys_numbers_rounded_once(
    frames: list[FrameFeatures], dtype: torch.dtype
) -> None:
    batch = collate(frames).to("cpu", dtype=dtype)
    assert not batch.quantised
    for name, values in batch.maps.items():
        twin = np.stack([as_floats(frame.maps[name]) for frame in frames])
        assert values.shape == twin.shape
        torch.testing.assert_close(values, torch.from_numpy(twin).to(dtype), rtol=0, atol=0)


def test_without_a_dtype_they_are_float16_as_from_a_store_that_is_not_quantised(
    frames: list[FrameFeatures],
) -> None:
    batch = collate(frames).to("cpu")
    assert {values.dtype for values in batch.maps.values()} == {torch.float16}


def test_moving_twice_changes_nothing(frames: list[FrameFeatures]) -> None:
    once = collate(frames).to("cpu")
    twice = once.to("cpu")
    assert all(torch.equal(twice.maps[name], once.maps[name]) for name in once.maps)


def test_maps_of_other_stores_keep_their_dtype() -> None:
    values = np.arange(C * H * W, dtype=np.float16).reshape(C, H, W)
    batch = collate([frame("ant", {"lidar/stride8": values})] * 2)
    assert batch.maps["lidar/stride8"].dtype == torch.float16
    assert batch.to("cpu", dtype=torch.float32).maps["lidar/stride8"].dtype == torch.float32
    np.testing.assert_array_equal(batch.to("cpu").maps["lidar/stride8"][1], values)


def test_a_buffer_filled_in_any_order_is_the_batch_of_its_samples(
    frames: list[FrameFeatures],
) -> None:
    buffer = BatchBuffer(frames[0].maps, len(frames))
    for i in (2, 0, 1):
        for name, values in buffer.sample(i).items():
            assert isinstance(values, QuantisedMap)
            quantised = frames[i].maps[name]
            assert isinstance(quantised, QuantisedMap)
            values.values[...] = quantised.values
            values.scale[...] = quantised.scale
            values.zero[...] = quantised.zero
    batch = buffer.batch([frame.frame for frame in frames], ["all", "no lidar", "all"])

    twin = collate(frames)
    for name, values in batch.to("cpu").maps.items():
        assert torch.equal(values, twin.to("cpu").maps[name])
    assert batch.tokens == twin.tokens
    assert batch.to("cpu").conditions == ("all", "no lidar", "all")
    assert twin.conditions == ("all",) * 3


@pytest.mark.gpu
def test_a_gpu_gives_the_same_numbers(frames: list[FrameFeatures]) -> None:
    on_cpu, on_gpu = (collate(frames).to(device, dtype=torch.float32) for device in ("cpu", "cuda"))
    for name, values in on_gpu.maps.items():
        assert values.is_cuda
        torch.testing.assert_close(values.cpu(), on_cpu.maps[name], rtol=0, atol=0)
