"""Dropping a sensor from stored features is exact: it gives what the backbones would give."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from cache.__main__ import main as feature_cache
from cache.coordination.null_store import null_path
from cache.reader import CachedFeatures
from shared.config.classes import CAMERAS, LIDAR
from shared.data.features import FrameFeatures, QuantisedMap, as_floats
from shared.data.sensor_drop import without
from shared.errors import CacheError
from stage1_extract.backbones.live import LiveFeatures
from stage1_extract.backbones.weights import frozen_backbones
from stage1_extract.nuscenes.nuscenes_tables import read_tables
from stage1_extract.preprocessing.absent_input import black_images, zero_voxels
from stage1_extract.preprocessing.images import normalised
from stage1_extract.preprocessing.raw_frames import RawFrame
from stage2_train.data.dataset import StoreDataset
from stage2_train.data.loader import BatchLoader
from stage2_train.data.sampler import Place


@pytest.fixture(scope="module")
def store(tiny_store: Path) -> CachedFeatures:
    return CachedFeatures(tiny_store)


@pytest.fixture(scope="module")
def live(synthetic_root: Path, store: CachedFeatures) -> LiveFeatures:
    records = read_tables(synthetic_root, "v1.0-mini", "mini_train")
    return LiveFeatures(records, frozen_backbones(store.preset, None)[0])


def assert_rounded(cached: FrameFeatures, exact: FrameFeatures) -> None:
    """Cached values are the float16 numbers nearest to the computed values."""
    assert cached.maps.keys() == exact.maps.keys()
    for name, values in exact.maps.items():
        rounded = as_floats(cached.maps[name])
        np.testing.assert_allclose(rounded, as_floats(values), rtol=2**-10, atol=1e-6, err_msg=name)


def recomputed(live: LiveFeatures, **changes: object) -> FrameFeatures:
    raw: RawFrame = dataclasses.replace(live.raw[0, 0], **changes)
    return live.run([raw])[0]


def test_an_absent_lidar_is_a_cloud_of_zeros(store: CachedFeatures, live: LiveFeatures) -> None:
    (features,) = store.read([live.tokens[0]])
    dropped = without(features, store.null, (LIDAR,))

    assert_rounded(dropped, recomputed(live, voxels=zero_voxels(live.preset)))
    assert not np.array_equal(dropped.maps["lidar/stride8"], features.maps["lidar/stride8"])
    for name in ("camera/stride16", "camera/stride32"):
        np.testing.assert_array_equal(dropped.maps[name], features.maps[name])


@pytest.mark.parametrize("cameras", [("CAM_FRONT",), ("CAM_BACK", "CAM_FRONT_LEFT"), CAMERAS])
def test_absent_cameras_are_black_images(
    store: CachedFeatures, live: LiveFeatures, cameras: tuple[str, ...]
) -> None:
    (features,) = store.read([live.tokens[0]])
    assert live.preset.camera is not None
    images = live.raw[0, 0].images
    assert images is not None
    images = images.clone()
    for name in cameras:
        images[CAMERAS.index(name)] = black_images(live.preset.camera)[0]

    assert_rounded(without(features, store.null, cameras), recomputed(live, images=images))


def test_black_is_a_pixel_of_0_normalised(live: LiveFeatures) -> None:
    """By hand: (0 - mean) / deviation of the channel, which is far from 0, a grey pixel."""
    camera = live.preset.camera
    assert camera is not None
    pixels = black_images(camera)
    assert pixels.shape == (len(CAMERAS), 3, camera.height_px, camera.width_px)
    images = normalised(pixels, camera)
    assert images.dtype == torch.float32
    for channel, black in enumerate((-103.53 / 57.375, -116.28 / 57.12, -123.675 / 58.395)):
        torch.testing.assert_close(
            images[:, channel], torch.full_like(images[:, channel], black), rtol=1e-6, atol=0
        )


def test_training_gets_what_the_backbones_give_for_the_masked_input(
    store: CachedFeatures, live: LiveFeatures
) -> None:
    assert live.preset.camera is not None
    images = live.raw[0, 0].images
    assert images is not None
    blind, no_rear = black_images(live.preset.camera), images.clone()
    no_rear[CAMERAS.index("CAM_BACK")] = blind[0]
    masked = {
        (): {},
        (LIDAR,): {"voxels": zero_voxels(live.preset)},
        CAMERAS: {"images": blind},
        ("CAM_BACK",): {"images": no_rear},
    }
    dataset = StoreDataset(store, live.tokens[:1])
    (batch,) = BatchLoader(dataset, [[Place(0, 0, absent) for absent in masked]], workers=2)
    for position, changes in enumerate(masked.values()):
        maps = {name: values[position].numpy() for name, values in batch.maps.items()}
        exact = recomputed(live, **changes)
        assert_rounded(dataclasses.replace(exact, maps=maps), exact)
    assert batch.conditions == ("all", "no lidar", "no cameras", "no CAM_BACK")


def test_the_features_of_an_absent_sensor_are_not_zero(store: CachedFeatures) -> None:
    assert all(as_floats(values).any() for values in store.null.maps.values())


def test_dropping_leaves_the_sample_itself_unchanged(store: CachedFeatures) -> None:
    (features,) = store.read(store.tokens[:1])
    before = {name: as_floats(values).copy() for name, values in features.maps.items()}
    without(without(features, store.null, CAMERAS), store.null, (LIDAR,))
    for name, values in before.items():
        np.testing.assert_array_equal(as_floats(features.maps[name]), values)


def test_a_camera_is_dropped_from_an_8_bit_map_with_its_scale() -> None:
    def quantised(level: int) -> QuantisedMap:
        return QuantisedMap(
            values=np.full((len(CAMERAS), 2, 1, 1), level, np.uint8),
            scale=np.full((len(CAMERAS), 2), level, np.float32),
            zero=np.full((len(CAMERAS), 2), -level, np.float32),
        )

    frame = FrameFeatures(frame=None, maps={"camera/stride16": quantised(3)})  # type: ignore[arg-type]
    null = FrameFeatures(frame=None, maps={"camera/stride16": quantised(5)})  # type: ignore[arg-type]
    dropped = without(frame, null, (CAMERAS[2],)).maps["camera/stride16"]
    assert dropped.dequantised()[:, 0, 0, 0].tolist() == [6, 6, 20, 6, 6, 6]


def test_null_features_belong_to_the_content(
    tiny_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy.zarr"
    shutil.copytree(tiny_store, copy)
    digests = []
    for _ in range(2):
        assert feature_cache(["digest", str(copy), "--recompute"]) == 0
        digests.append(capsys.readouterr().out)
        shutil.rmtree(null_path(copy), ignore_errors=True)
    assert digests[0] != digests[1]
    with pytest.raises(CacheError, match="no null features, so no sensor can be dropped"):
        _ = CachedFeatures(copy).null


def test_the_null_sample_is_the_same_whatever_was_drawn_before(live: LiveFeatures) -> None:
    torch.manual_seed(1)
    voxels = zero_voxels(live.preset)
    cells = live.preset.grid.range_voxels
    assert voxels.coordinates.tolist() == [[25, cells[1] // 2, cells[2] // 2]]
    assert not voxels.means.any()
