"""Images are resized, cropped, normalised and projected as official CMT does it."""

import math
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from shared.config.preset import CameraBranch
from shared.config.preset_catalogue import r50_800x320, tiny
from shared.errors import DatasetError
from stage1_extract.nuscenes.nuscenes_tables import read_tables
from stage1_extract.nuscenes.records import SampleRecord
from stage1_extract.preprocessing.images import (
    ImageTransform,
    decode_jpeg,
    identity_transform,
    img_from_lidar,
    load_images,
    normalised,
    transform_pixels,
)

SMALL = CameraBranch(
    backbone="resnet50",
    base_channels=8,
    height_px=32,
    width_px=64,
    raw_height_px=64,
    raw_width_px=96,
    resize_lim=(1, 1),
)
UNTOUCHED = ImageTransform(resize=1.0, left_px=0, top_px=0)


@pytest.fixture
def record(made_up_nuscenes: Path) -> SampleRecord:
    return read_tables(made_up_nuscenes, "v1.0-mini", "mini_val")[1]


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (64, 96, 3), dtype=np.uint8)


def test_the_top_is_cut_in_variant_0() -> None:
    assert identity_transform(r50_800x320().camera) == ImageTransform(
        resize=0.5, left_px=0, top_px=130
    )
    assert identity_transform(tiny().camera) == ImageTransform(resize=0.1, left_px=0, top_px=26)


def test_a_point_ahead_falls_on_the_principal_point(record: SampleRecord) -> None:
    """Camera and LiDAR share place and time; 10 m ahead is pixel (800, 450) as recorded."""
    _, matrices = load_images(record, r50_800x320().camera)
    assert matrices.shape == (6, 4, 4)
    for matrix in matrices:
        np.testing.assert_allclose(
            matrix @ [10, 0, 0, 1], [10 * 800 / 2, 10 * (450 / 2 - 130), 10, 1], atol=1e-9
        )
        # 1 m to the left at 10 m: 100 px, halved.
        np.testing.assert_allclose((matrix @ [10, 1, 0, 1])[0], 10 * (400 - 50), atol=1e-9)


def test_images_are_six_and_in_camera_order(record: SampleRecord) -> None:
    pixels, _ = load_images(record, tiny().camera)
    assert pixels.shape == (6, 3, 64, 160)
    assert pixels.dtype == np.uint8
    images = normalised(torch.from_numpy(pixels), tiny().camera)
    assert images.dtype == torch.float32
    assert images[:, :, :, 0].max() < -1.7  # the ramp is black on the left
    assert images[:, :, :, -1].min() > 2.2  # and white on the right


def test_a_crop_takes_zeros_from_outside(pixels: np.ndarray) -> None:
    for left_px, top_px in [(-5, -7), (40, 40), (100, 0), (0, -40)]:
        cropped = transform_pixels(
            pixels, ImageTransform(resize=1.0, left_px=left_px, top_px=top_px), SMALL
        )
        padded = np.zeros((264, 296, 3), np.uint8)
        padded[100:164, 100:196] = pixels
        expected = padded[100 + top_px :, 100 + left_px :][:32, :64]
        np.testing.assert_array_equal(cropped, expected)


@pytest.mark.parametrize("resize", [0.4, 0.5, 0.73, 1.0, 1.4, 2.0])
@pytest.mark.parametrize("flip", [False, True])
def test_rows_that_the_crop_leaves_out_change_no_bit_of_the_others(
    pixels: np.ndarray, resize: float, flip: bool
) -> None:
    width_px, height_px = math.trunc(96 * resize), math.trunc(64 * resize)
    resized = cv2.resize(pixels, (width_px, height_px))
    for left_px, top_px in [(0, height_px - 32), (0, 0), (3, 5), (-5, -7), (20, 17), (0, 90)]:
        padded = np.zeros((400, 500, 3), np.uint8)
        padded[100 : 100 + height_px, 100 : 100 + width_px] = resized
        expected = padded[100 + top_px :, 100 + left_px :][:32, :64]
        transform = ImageTransform(resize=resize, left_px=left_px, top_px=top_px, flip=flip)
        cropped = transform_pixels(pixels, transform, SMALL)
        np.testing.assert_array_equal(cropped, expected[:, ::-1] if flip else expected)
        assert cropped.flags.c_contiguous


def test_a_flip_mirrors_image_and_projection_alike(
    pixels: np.ndarray, record: SampleRecord
) -> None:
    flipped = replace(UNTOUCHED, flip=True)
    np.testing.assert_array_equal(
        transform_pixels(pixels, flipped, SMALL),
        transform_pixels(pixels, UNTOUCHED, SMALL)[:, ::-1],
    )
    point = np.array([10, 1, 0, 1])
    plain = img_from_lidar(record.cameras[0], UNTOUCHED, SMALL) @ point
    mirrored = img_from_lidar(record.cameras[0], flipped, SMALL) @ point
    np.testing.assert_allclose(mirrored[0] / 10, 64 - plain[0] / 10)


def test_normalisation_rounds_difference_and_product_in_turn() -> None:
    levels = np.arange(256, dtype=np.uint8)
    pixels = np.stack([np.roll(levels, 80 * channel) for channel in range(3)], axis=-1)[None]
    ours = normalised(torch.from_numpy(pixels.transpose(2, 0, 1)), SMALL)
    # mmcv's imnormalize_, with OpenCV.
    image = pixels.astype(np.float32)
    cv2.subtract(image, np.float64(np.float32([SMALL.mean_bgr])), image)
    cv2.multiply(image, 1 / np.float64(np.float32([SMALL.std_bgr])), image)
    np.testing.assert_array_equal(ours.numpy(), image.transpose(2, 0, 1))


def test_a_missing_jpeg_is_an_error_that_names_it(record: SampleRecord) -> None:
    file = record.cameras[3].file
    file.unlink()
    with pytest.raises(
        DatasetError, match=rf"{re.escape(file.name)} cannot be read \(No such file"
    ):
        load_images(record, tiny().camera)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_a_truncated_jpeg_is_an_error_that_names_it(record: SampleRecord, share: float) -> None:
    """OpenCV would fill the rest with grey, and say so on stderr only."""
    file = record.cameras[3].file
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(
        DatasetError, match=rf"{re.escape(file.name)} .*truncated or not a JPEG.*again"
    ):
        load_images(record, tiny().camera)


def test_a_jpeg_whose_end_became_zeros_is_refused(record: SampleRecord) -> None:
    file = record.cameras[0].file
    whole = file.read_bytes()
    file.write_bytes(whole[:5000] + bytes(len(whole) - 5000))
    with pytest.raises(DatasetError, match="truncated or not a JPEG"):
        load_images(record, tiny().camera)


def test_bytes_that_only_look_like_a_jpeg_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "fake.jpg"
    file.write_bytes(b"\xff\xd8" + bytes(range(100)) + b"\xff\xd9")
    with pytest.raises(DatasetError, match=r"fake\.jpg \(104 bytes\) is damaged inside"):
        decode_jpeg(file, 900, 1600)


@pytest.mark.parametrize("shape", [(450, 800, 3), (900, 1600)])
def test_an_image_of_a_different_size_or_without_colour_is_refused(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    file = tmp_path / "other.jpg"
    file.write_bytes(cv2.imencode(".jpg", np.zeros(shape, np.uint8))[1].tobytes())
    with pytest.raises(DatasetError, match=r"other\.jpg is \(\d+, \d+.*expected \(900, 1600, 3\)"):
        decode_jpeg(file, 900, 1600)
