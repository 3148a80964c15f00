"""A sensor file that is damaged, or of another layout, is refused by name."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from shared.config.preset_catalogue import tiny
from shared.errors import DatasetError
from stage1_extract.__main__ import main as extract_features
from stage1_extract.nuscenes.nuscenes_tables import read_tables
from stage1_extract.nuscenes.records import SampleRecord
from stage1_extract.preprocessing.images import decode_jpeg, load_images
from stage1_extract.preprocessing.point_checks import FARTHEST_M, LAST_RING
from stage1_extract.preprocessing.sweeps import load_points, read_points
from tests.cases.damaged_files import JPEGS, POINT_FILES, DamagedFile


@pytest.fixture(scope="module")
def record(synthetic_root: Path) -> SampleRecord:
    return read_tables(synthetic_root, "v1.0-mini", "mini_train")[1]


@pytest.mark.parametrize("case", JPEGS.values(), ids=JPEGS)
def test_a_damaged_image_names_sample_and_file(
    record: SampleRecord, tmp_path: Path, case: DamagedFile
) -> None:
    good = record.cameras[2]
    bad = replace(good, file=tmp_path / good.file.name)
    bad.file.write_bytes(case.damage(good.file.read_bytes()))
    damaged = replace(record, cameras=(*record.cameras[:2], bad, *record.cameras[3:]))
    with pytest.raises(DatasetError, match=rf"(?s){case.message}") as caught:
        load_images(damaged, tiny().camera)
    assert str(caught.value).startswith(f"sample {record.token}: image {bad.file} ")


@pytest.mark.parametrize("case", POINT_FILES.values(), ids=POINT_FILES)
@pytest.mark.parametrize("sweep", [False, True])
def test_a_damaged_point_file_names_sample_and_file(
    record: SampleRecord, tmp_path: Path, case: DamagedFile, sweep: bool
) -> None:
    good = record.sweeps[1].file if sweep else record.lidar_file
    bad = tmp_path / good.name
    bad.write_bytes(case.damage(good.read_bytes()))
    sweeps = (record.sweeps[0], replace(record.sweeps[1], file=bad), *record.sweeps[2:])
    damaged = replace(record, sweeps=sweeps) if sweep else replace(record, lidar_file=bad)
    with pytest.raises(DatasetError, match=rf"(?s){case.message}") as caught:
        load_points(damaged, 10)
    assert str(caught.value).startswith(f"sample {record.token}: LiDAR file {bad}")


@pytest.mark.parametrize(
    ("column", "good", "bad"),
    [
        (0, FARTHEST_M, 200.1),
        (1, -FARTHEST_M, -200.1),
        (2, FARTHEST_M, np.inf),
        (3, 0, -0.1),
        (3, 255, 255.1),
        (3, 12.5, np.nan),  # simulated fog attenuates
        (4, 0, -1),
        (4, LAST_RING, 32),
        (4, LAST_RING, 30.5),
    ],
)
def test_points_at_the_limits_are_accepted_and_beyond_are_not(
    record: SampleRecord, tmp_path: Path, column: int, good: float, bad: float
) -> None:
    points = read_points(record.lidar_file)
    file = tmp_path / "limit.pcd.bin"
    points[5, column] = good
    points.tofile(file)
    np.testing.assert_array_equal(read_points(file), points)
    points[5, column] = bad
    points.tofile(file)
    with pytest.raises(DatasetError, match=r"1 of .* implausible, the first is number 5 "):
        read_points(file)


def test_a_few_zero_rows_are_accepted(record: SampleRecord, tmp_path: Path) -> None:
    """The limit is a share, and below the smallest hole that a disk leaves."""
    points = np.concatenate([read_points(record.lidar_file)] * 4)
    file = tmp_path / "zeros.pcd.bin"
    allowed = int(0.0005 * len(points))
    points[:allowed] = 0
    points.tofile(file)
    assert len(read_points(file)) == len(points)
    points[: allowed + 1] = 0
    points.tofile(file)
    with pytest.raises(DatasetError, match=f"{allowed + 1} of {len(points)} points are zeros"):
        read_points(file)


@pytest.mark.parametrize("quality", [20, 95])
@pytest.mark.parametrize("progressive", [0, 1])
@pytest.mark.parametrize(
    "sampling",
    [
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411,
    ],
)
def test_pixels_are_those_of_opencv(
    record: SampleRecord, tmp_path: Path, quality: int, progressive: int, sampling: int
) -> None:
    """Official CMT decodes with OpenCV; the stricter decoder must not differ by one level."""
    image = cv2.imread(str(record.cameras[0].file))[:451, :799]  # no multiple of a block
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_PROGRESSIVE, progressive]
    options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    encoded = cv2.imencode(".jpg", image, options)[1]
    file = tmp_path / "image.jpg"
    file.write_bytes(encoded.tobytes() + bytes(100))  # padding is no damage
    np.testing.assert_array_equal(
        decode_jpeg(file, 451, 799), cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED), strict=True
    )


@pytest.mark.parametrize(
    ("channel", "cases", "name"),
    [("CAM_BACK", JPEGS, "a hole of zeros"), ("LIDAR_TOP", POINT_FILES, "float64")],
)
def test_the_extraction_ends_with_status_1_and_one_message(
    synthetic_root: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    channel: str,
    cases: dict[str, DamagedFile],
    name: str,
) -> None:
    root = tmp_path / "nuscenes"
    shutil.copytree(synthetic_root, root)
    record = read_tables(root, "v1.0-mini", "mini_train")[1]
    files = {file.parent.name: file for file in record.keyframe_files}
    file = files[channel]
    file.write_bytes(cases[name].damage(file.read_bytes()))
    where = ["--nuscenes", str(root), "--version", "v1.0-mini", "--split", "mini_train"]

    assert extract_features(["tiny", *where, "--store", str(tmp_path / "store")]) == 1

    printed = capfd.readouterr().err
    assert re.search(
        rf"sample {record.token}: .*{re.escape(file.name)}.*{cases[name].message}", printed
    )
    assert "Traceback" not in printed


@pytest.mark.real
def test_all_real_sensor_files_are_accepted_with_room_to_spare(nuscenes_real: Path) -> None:
    files = sorted(nuscenes_real.glob("s*/LIDAR_TOP/*.bin"))
    points = np.concatenate([read_points(file) for file in files])
    assert np.abs(points[:, :3]).max() < 0.6 * FARTHEST_M
    assert (points[:, :4] != 0).any(axis=1).all()
    images = sorted(nuscenes_real.glob("samples/CAM*/*.jpg"))
    for image in images:
        np.testing.assert_array_equal(decode_jpeg(image, 900, 1600), cv2.imread(str(image)))
    assert files
    assert images
