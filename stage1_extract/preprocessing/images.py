"""From six JPEGs to the network's input, and the projection that goes with it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.config.preset import CameraBranch
from shared.errors import DatasetError
from shared.file_kinds import foreign_kind
from shared.process.device import device_constant
from stage1_extract.conditions.apply_condition import SampleChanges
from stage1_extract.nuscenes.records import Camera, SampleRecord, naming_sample
from stage1_extract.nuscenes.transforms import camera_from_lidar, product
from stage1_extract.preprocessing.grid_mask import mask_out
from stage1_extract.preprocessing.sweeps import read_points

JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
COLOURS = {"Gray": "GRAY", "CMYK": "CMYK", "YCCK": "CMYK"}  # what else is decoded to


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageTransform:
    """Resize, crop, flip, in this order; the same for all six cameras.

    Args:
        resize: factor on the recorded image; the resized size is truncated to whole pixels.
        left_px, top_px: corner of the crop in the resized image.
        flip: mirror left and right.
    """

    resize: float
    left_px: int
    top_px: int
    flip: bool = False


def identity_transform(camera: CameraBranch) -> ImageTransform:
    """Return the transform of variant 0, the one of the official test pipeline.

    The bottom of the image is kept and the top is cut off: 130 of 450 rows for `r50_800x320`.

    Source: CMT, `ResizeCropFlipImage._sample_augmentation`, not training, bot_pct_lim (0, 0).
    """
    resize = max(camera.height_px / camera.raw_height_px, camera.width_px / camera.raw_width_px)
    width_px, height_px = resized_px(camera, resize)
    return ImageTransform(
        resize=resize,
        left_px=int(max(0, width_px - camera.width_px) / 2),
        top_px=height_px - camera.height_px,
    )


def load_images(
    record: SampleRecord,
    camera: CameraBranch,
    transform: ImageTransform | None = None,
    *,
    read: Callable[[Path], bytes] = Path.read_bytes,
    changes: SampleChanges | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return a frame's images in one variant, for `normalised`.

    Args:
        record: the frame.
        camera: size and normalisation of the network's input.
        transform: for all cameras; None is that of variant 0.
        read: reads a file.
        changes: what a condition does to the sample; None leaves it as recorded.

    Returns:
        Images (V, 3, H, W) uint8, BGR; and `img_from_lidar` (V, 4, 4) float64 in the pixels of
        these images, see `shared.data.features.Frame`.

    Raises:
        DatasetError: naming the sample, if a JPEG is missing, damaged or not of the expected size.
        ConfigError: if a function of the condition returns something else than pixels.
    """
    transform = identity_transform(camera) if transform is None else transform
    keyframe = cache(lambda: read_points(record.lidar_file, read))
    images = np.empty((len(record.cameras), 3, camera.height_px, camera.width_px), np.uint8)
    for image, view in zip(images, record.cameras, strict=True):
        with naming_sample(record):
            pixels = decode_jpeg(view.file, camera.raw_height_px, camera.raw_width_px, read)
            if changes is not None:
                pixels = changes.image(pixels, view, keyframe)
        cv2.split(transform_pixels(pixels, transform, camera), list(image))
    return images, projections(record, camera, transform)


def projections(
    record: SampleRecord, camera: CameraBranch, transform: ImageTransform | None = None
) -> NDArray[np.float64]:
    """Return (V, 4, 4) float64, `img_from_lidar` of every camera of a frame in one variant.

    Args:
        record: the frame; only its calibration counts.
        camera: size of the network's input.
        transform: for all cameras; None is that of variant 0.
    """
    transform = identity_transform(camera) if transform is None else transform
    return np.stack([img_from_lidar(view, transform, camera) for view in record.cameras])


def decode_jpeg(
    file: Path,
    height_px: int,
    width_px: int,
    read: Callable[[Path], bytes] = Path.read_bytes,
) -> NDArray[np.uint8]:
    """Return a JPEG's pixels, (height, width, 3) uint8, BGR; `read` reads the file.

    Raises:
        DatasetError: see `read_jpeg`; or if the image is not of the expected size.
    """
    pixels = read_jpeg(file, read)
    if pixels.shape != (height_px, width_px, 3):
        raise DatasetError(
            f"image {file} is {pixels.shape} (rows, columns, channels), expected "
            f"{(height_px, width_px, 3)}; the preset's raw image size does not match this dataset"
        )
    return pixels


def read_jpeg(file: Path, read: Callable[[Path], bytes] = Path.read_bytes) -> NDArray[np.uint8]:
    """Return a JPEG's pixels, uint8, BGR, whatever its size; `read` reads the file.

    Raises:
        DatasetError: if the file is missing, truncated, or damaged in a way that the decoder
            notices. Flipped bits that leave valid Huffman codes it cannot.
    """
    try:
        encoded = read(file)
    except OSError as fault:
        raise DatasetError(
            f"image {file} cannot be read ({fault.strerror}); unpack it again, or restrict the "
            "samples to what exists (--existing-only)"
        ) from fault
    size = f"{len(encoded)} bytes"
    # Zeros after the end marker are padding of the file system.
    if encoded[:2] != JPEG_START or encoded.rstrip(b"\0")[-2:] != JPEG_END:
        kind = None if encoded[:2] == JPEG_START else foreign_kind(file)
        raise DatasetError(
            f"image {file} ({size}) does not begin and end as a JPEG does: it is "
            f"{kind or 'truncated or not a JPEG, so unpack or download it again'}"
        )
    try:
        colours = simplejpeg.decode_jpeg_header(encoded)[2]
        # Strict: what libjpeg only warns of, and OpenCV fills with grey or noise, is an error.
        pixels = simplejpeg.decode_jpeg(encoded, COLOURS.get(colours, "BGR"), strict=True)
    except ValueError as fault:
        raise DatasetError(
            f"image {file} ({size}) is damaged inside, the decoder reports: {fault}. Most viewers "
            "fill such parts with grey or noise and say nothing; unpack or download it again"
        ) from fault
    return np.asarray(pixels, np.uint8)


def transform_pixels(
    pixels: NDArray[np.uint8], transform: ImageTransform, camera: CameraBranch
) -> NDArray[np.uint8]:
    """Resize, crop and flip; what the crop takes from beyond the image is 0.

    Returns:
        (H, W, 3) uint8, BGR.

    Source: CMT, `ResizeCropFlipImage._img_transform`. Without its rotation, which no official
    config uses, the values stay whole numbers, so uint8 holds what upstream has in float64.
    """
    rows = slice(max(0, transform.top_px), max(0, transform.top_px + camera.height_px))
    columns = slice(max(0, transform.left_px), max(0, transform.left_px + camera.width_px))
    inside = _resized_rows(pixels, *resized_px(camera, transform.resize), rows)[:, columns]
    if inside.shape[:2] != (camera.height_px, camera.width_px):
        cropped = np.zeros((camera.height_px, camera.width_px, 3), np.uint8)
        top_px, left_px = max(0, -transform.top_px), max(0, -transform.left_px)
        cropped[top_px : top_px + inside.shape[0], left_px : left_px + inside.shape[1]] = inside
        inside = cropped
    return np.ascontiguousarray(inside[:, ::-1] if transform.flip else inside)


def _resized_rows(
    pixels: NDArray[np.uint8], width_px: int, height_px: int, rows: slice
) -> NDArray[np.uint8]:
    """Return rows of the image that `cv2.resize` gives, bit for bit.

    An image that keeps its size is not resized. In one of half the size, as in variant 0 of
    `r50_800x320`, a pixel is the mean of four, so that the other rows do not count.
    """
    if pixels.shape[:2] == (height_px, width_px):
        return pixels[rows]
    if pixels.shape[:2] == (2 * height_px, 2 * width_px) and rows.start < height_px:
        pixels = pixels[2 * rows.start : 2 * rows.stop]
        height_px, rows = len(pixels) // 2, slice(None)
    resized: NDArray[np.uint8] = cv2.resize(pixels, (width_px, height_px))
    return resized[rows]


def normalised(images: Tensor, camera: CameraBranch, stripes: Tensor | None = None) -> Tensor:
    """Return the network's input, with mean 0 and deviation 1: the same bits on every device.

    Args:
        images: (..., 3, H, W) uint8, BGR.
        camera: mean and deviation.
        stripes: (..., H + W) bool on any device, what GridMask leaves of each image; None if it
            masks nothing.

    Returns:
        (..., 3, H, W) float32.
    """
    result = torch.empty(images.shape, dtype=torch.float32, device=images.device)
    values = normal_values(camera)
    if images.is_cuda:
        look_up(images, values, out=result)
    else:
        planes, places = (tensor.flatten(0, -3).numpy() for tensor in (images, result))
        for number, (plane, place) in enumerate(zip(planes, places, strict=True)):
            cv2.LUT(plane, values[number % len(values)], dst=place)
    if stripes is not None:
        mask_out(result, stripes)
    return result


def look_up(images: Tensor, values: NDArray[np.float32], *, out: Tensor) -> None:
    """Write what pixels become, as `cv2.LUT` does, but on any device.

    Args:
        images: (..., 3, H, W) uint8.
        values: (3, 256) float32, see `normal_values`.
        out: (..., 3, H, W) float32.
    """
    table = device_constant(tuple(values.flatten().tolist()), images.device).view(values.shape)
    for colour, of_colour in enumerate(table):
        out[..., colour, :, :] = of_colour[images[..., colour, :, :].long()]


@cache
def normal_values(camera: CameraBranch) -> NDArray[np.float32]:
    """Return (3, 256) float32: what every value of a pixel becomes, by colour.

    It is the official arithmetic: mean and deviation are float32 widened to float64, difference and
    product are each rounded to float32.

    Source: mmcv 1.6, `imnormalize_` (cv2.subtract, cv2.multiply).
    """
    means = np.array(camera.mean_bgr, np.float32).astype(np.float64)[:, None]
    scales = 1 / np.array(camera.std_bgr, np.float32).astype(np.float64)[:, None]
    centred = (np.arange(256, dtype=np.float64) - means).astype(np.float32).astype(np.float64)
    values: NDArray[np.float32] = (centred * scales).astype(np.float32)
    values.setflags(write=False)
    return values


def img_from_lidar(
    camera: Camera, transform: ImageTransform, branch: CameraBranch
) -> NDArray[np.float64]:
    """Return the (4, 4) float64 projection of LiDAR points into the transformed image's pixels.

    Upstream: u' = resize * u - left, without the half pixel by which cv2.resize shifts, and with
    the raw factor although the resized size is truncated. Factor and offsets pass through float32.

    Source: CMT, `ResizeCropFlipImage.__call__`.
    """
    scale = np.full(2, transform.resize, np.float32)
    offset_px = -np.array([transform.left_px, transform.top_px], np.float32)
    if transform.flip:
        mirror = np.array([-1, 1], np.float32)
        scale *= mirror
        offset_px = mirror * offset_px + np.array([branch.width_px, 0], np.float32)
    intrinsics = np.eye(4)
    intrinsics[:3, :3] = camera.intrinsics
    intrinsics[:2, :3] *= scale[:, None]
    intrinsics[:2, 2] += offset_px
    return product(intrinsics, camera_from_lidar(camera.rotation, camera.translation_m))


def resized_px(camera: CameraBranch, resize: float) -> tuple[int, int]:
    """Return (width, height) after resizing, truncated as upstream does."""
    return math.trunc(camera.raw_width_px * resize), math.trunc(camera.raw_height_px * resize)
