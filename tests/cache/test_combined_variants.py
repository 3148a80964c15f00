"""Images of one row go with the LiDAR of another; every array is read once, from its own row."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cache.coordination.store import Store
from cache.format.schema import ArraySpec
from cache.reader import CachedFeatures
from shared.data.batch import BatchBuffer
from shared.data.features import FrameFeatures, as_floats
from shared.errors import CacheError, MissingRowError
from tests.cache.conftest import fill, make_writer
from tests.cache.verification.test_damage import flip_bit

LIDAR, CAMERA = 2, 1  # variants
CODECS = ("zstd-1-shuffle", "uint8-zstd-1")


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Stores of three variants; tests must not write to them."""
    path = tmp_path_factory.mktemp("variants")
    for codec in CODECS:
        fill(make_writer(path / codec, codec=codec, variants=3))
    return {codec: path / codec for codec in CODECS}


@pytest.fixture(params=CODECS)
def source(request: pytest.FixtureRequest, paths: dict[str, Path]) -> CachedFeatures:
    return CachedFeatures(paths[request.param])


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Every array that is read, with the variant of its row."""
    taken: list[tuple[str, int]] = []
    honest = Store.read_array

    def counted(self: Store, spec: ArraySpec, variant: int, *more: Any) -> Any:
        taken.append((spec.name, variant))
        return honest(self, spec, variant, *more)

    monkeypatch.setattr(Store, "read_array", counted)
    return taken


def assert_combined(features: FrameFeatures, cameras: FrameFeatures, lidar: FrameFeatures) -> None:
    """Check a combined sample against the two rows it is made from."""
    for name, values in features.maps.items():
        expected = (cameras if name.startswith("camera/") else lidar).maps[name]
        np.testing.assert_array_equal(as_floats(values), as_floats(expected), err_msg=name)
    frame, wanted = features.frame, lidar.frame
    assert (frame.token, frame.variant, frame.timestamp_us) == ("cow", LIDAR, wanted.timestamp_us)
    for array in ("ego_from_lidar", "global_from_ego"):
        np.testing.assert_array_equal(getattr(frame, array), getattr(wanted, array))
    np.testing.assert_array_equal(frame.annotations.boxes_lidar, wanted.annotations.boxes_lidar)
    # A point of the LiDAR variant lands where the same place of the ego frame lands in the images.
    point = np.array([3.0, -2.0, 0.5, 1.0])
    same_place = np.linalg.inv(cameras.frame.ego_from_lidar) @ (wanted.ego_from_lidar @ point)
    np.testing.assert_allclose(
        frame.img_from_lidar @ point, cameras.frame.img_from_lidar @ same_place, rtol=1e-9
    )


def test_a_combined_sample_has_the_images_of_one_row_and_the_rest_of_another(
    source: CachedFeatures,
) -> None:
    (cameras,), (lidar,) = (source.read(["cow"], variant) for variant in (CAMERA, LIDAR))
    (features,) = source.read(["cow"], LIDAR, CAMERA)
    assert_combined(features, cameras, lidar)
    assert not np.allclose(features.frame.img_from_lidar, cameras.frame.img_from_lidar)
    assert not np.allclose(features.frame.img_from_lidar, lidar.frame.img_from_lidar)

    maps = BatchBuffer(source.blank_maps, 1).sample(0)
    frame = source.read_into(maps, "cow", LIDAR, CAMERA)
    assert_combined(FrameFeatures(frame=frame, maps=maps), cameras, lidar)


def test_a_row_combined_with_itself_is_the_row(source: CachedFeatures) -> None:
    (row,), (combined,) = source.read(["cow"], LIDAR), source.read(["cow"], LIDAR, LIDAR)
    np.testing.assert_array_equal(row.frame.img_from_lidar, combined.frame.img_from_lidar)
    for name, values in row.maps.items():
        np.testing.assert_array_equal(as_floats(values), as_floats(combined.maps[name]))


def test_every_array_is_read_once_and_from_its_own_row(
    source: CachedFeatures, reads: list[tuple[str, int]]
) -> None:
    source.read_into(BatchBuffer(source.blank_maps, 1).sample(0), "cow", LIDAR)
    plain = sorted(name for name, _ in reads)
    reads.clear()

    source.read_into(BatchBuffer(source.blank_maps, 1).sample(0), "cow", LIDAR, CAMERA)

    assert sorted(name for name, _ in reads) == sorted([*plain, "geometry/ego_from_lidar"])
    of_cameras = {name for name, variant in reads if variant == CAMERA}
    images = {name for name in plain if name.startswith("camera/")}
    assert of_cameras == images | {"geometry/img_from_lidar", "geometry/ego_from_lidar"}
    assert len([name for name, variant in reads if variant == CAMERA]) == len(of_cameras)
    assert {variant for _, variant in reads} == {LIDAR, CAMERA}


def test_maps_that_are_not_asked_for_are_not_read(
    source: CachedFeatures, reads: list[tuple[str, int]]
) -> None:
    maps = BatchBuffer(source.blank_maps, 1).sample(0)
    lidar = {name: values for name, values in maps.items() if name.startswith("lidar/")}
    source.read_into(lidar, "cow", LIDAR, CAMERA)
    assert {name for name, variant in reads if variant == CAMERA} == {
        "geometry/img_from_lidar",
        "geometry/ego_from_lidar",
    }
    assert not any(name.startswith("camera/") for name, _ in reads)


def test_a_missing_row_of_the_images_is_an_error(tmp_path: Path) -> None:
    writer = make_writer(tmp_path / "begun", variants=2)
    fill(writer, shards=writer.store.layout.shards_per_variant)
    source = CachedFeatures(tmp_path / "begun")
    source.read(["cow"], 0)
    with pytest.raises(MissingRowError, match="sample cow, variant 1 is not extracted yet"):
        source.read(["cow"], 0, 1)
    with pytest.raises(MissingRowError, match="sample cow, variant 2 is not in"):
        source.read(["cow"], 0, 2)


def test_damage_names_the_row_that_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "damaged"
    fill(make_writer(path, variants=2))
    (file,) = (path / "camera/stride16").glob("c.1.0.*")  # of variant 1, with ant
    flip_bit(file, byte=20)
    source = CachedFeatures(path)
    source.read(["ant"], 1, 0)
    with pytest.raises(CacheError, match=r"camera/stride16 of sample ant, variant 1 is damaged"):
        source.read(["ant"], 0, 1)
