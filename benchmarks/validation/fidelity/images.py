"""Fidelity of the image steps: decoding, resizing, cropping, normalising, and all together."""

from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from typing import Any

import mmcv
import numpy as np
import torch
from mmdet3d.datasets.transforms import LoadMultiViewImageFromFiles
from mmdet3d.models.data_preprocessors import Det3DDataPreprocessor
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from benchmarks.validation.fidelity.rows import PRESETS, Gap, RealFrame, Row, camera_of
from shared.config.preset import CameraBranch
from stage1_extract.preprocessing.images import (
    ImageTransform,
    decode_jpeg,
    identity_transform,
    load_images,
    normalised,
    transform_pixels,
)

Pixels = NDArray[Any]
Size = tuple[int, int]  # width, height

TRAINING_FACTORS = (0.47, 0.6)  # the smallest of r50_800x320, and a factor within its range
DIVISOR = 32


def decoded(frames: Sequence[RealFrame]) -> list[Pixels]:
    """Return all images as recorded, (900, 1600, 3) uint8 BGR."""
    cameras = [camera for frame in frames for camera in frame.record.cameras]
    return [decode_jpeg(camera.file, 900, 1600) for camera in cameras]


def _pillow(encoded: bytes) -> Pixels:
    return np.asarray(Image.open(BytesIO(encoded)).convert("RGB"))[:, :, ::-1]


DECODERS: dict[str, Callable[[bytes], Pixels]] = {
    "mmcv.imfrombytes, cv2": lambda encoded: mmcv.imfrombytes(encoded, flag="unchanged"),
    "mmcv.imfrombytes, pillow": lambda encoded: mmcv.imfrombytes(encoded, backend="pillow"),
    "PIL.Image.open": _pillow,
}


def decoding(frames: Sequence[RealFrame]) -> Iterator[Row]:
    """Compare JPEG decoders."""
    step, ours, what = "JPEG decoding", "decode_jpeg", "pixels (grey levels)"
    gaps = {name: Gap() for name in DECODERS}
    views = Gap()
    for frame in frames:
        cameras = frame.record.cameras
        images = {
            camera.name: {"img_path": str(camera.file), "cam2img": None, "lidar2cam": None}
            for camera in cameras
        }
        loaded = LoadMultiViewImageFromFiles(num_views=6).transform({"images": images})["img"]
        for camera, view in zip(cameras, loaded, strict=True):
            pixels = decode_jpeg(camera.file, *view.shape[:2])
            views.add(pixels, view)
            for name, decode in DECODERS.items():
                gaps[name].add(pixels, decode(camera.file.read_bytes()))
    remark = "OpenCV there, simplejpeg here"
    yield views.row(step, ours, "mmdet3d LoadMultiViewImageFromFiles", what, remark)
    for name, gap in gaps.items():
        yield gap.row(step, ours, name, what, "BGR on both sides")


def _pillow_bicubic(pixels: Pixels, size: Size) -> Pixels:
    return np.asarray(Image.fromarray(pixels).resize(size))


def _torch_bilinear(antialias: bool) -> Callable[[Pixels, Size], Pixels]:
    def resize(pixels: Pixels, size: Size) -> Pixels:
        planes = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
        resized = functional.interpolate(planes, size[::-1], mode="bilinear", antialias=antialias)
        return np.asarray(resized[0].permute(1, 2, 0).numpy())

    return resize


def _box(pixels: Pixels, size: Size) -> Pixels:
    planes = torch.from_numpy(pixels).permute(2, 0, 1).float()
    means = functional.avg_pool2d(planes, 2).permute(1, 2, 0).numpy()
    assert means.shape[1::-1] == size
    return np.asarray(np.floor(means + 0.5))


# Each resizer with its remark.
RESIZERS: dict[str, tuple[Callable[[Pixels, Size], Pixels], str]] = {
    "mmcv.imresize, cv2": (mmcv.imresize, "same OpenCV call"),
    "mmcv.imresize, cv2, float32 pixels": (
        lambda pixels, size: mmcv.imresize(pixels.astype(np.float32), size),
        "`to_float32=True`; with uint8 OpenCV has 11-bit weights and rounds",
    ),
    "mmcv.imresize, pillow bilinear": (
        lambda pixels, size: mmcv.imresize(pixels, size, backend="pillow"),
        "Pillow filters before it shrinks; OpenCV does not",
    ),
    "PIL.Image.resize": (_pillow_bicubic, "bicubic by default; BEVFusion's ImageAug3D"),
    "torch interpolate, bilinear": (_torch_bilinear(False), "float32, not rounded"),
    "torch interpolate, bilinear, antialias": (_torch_bilinear(True), "float32, not rounded"),
}


def bottom_crop(camera: CameraBranch, factor: float) -> tuple[ImageTransform, Size]:
    """Return the transform that keeps the bottom rows at a factor, and the size before cropping."""
    size = (int(camera.raw_width_px * factor), int(camera.raw_height_px * factor))
    return ImageTransform(resize=factor, left_px=0, top_px=size[1] - camera.height_px), size


def resizing(frames: Sequence[RealFrame]) -> Iterator[Row]:
    """Compare resizers on the rows and columns that enter the network."""
    images = decoded(frames)
    r50, vov = (camera_of(preset) for preset in PRESETS)
    half = identity_transform(r50).resize
    box = {
        "2 x 2 mean, half up (torch avg_pool2d)": (
            _box,
            "OpenCV treats a factor of one half specially",
        )
    }
    for factor in (half, *TRAINING_FACTORS):
        for name, (resize, remark) in (RESIZERS | (box if factor == half else {})).items():
            gap = _resize_gap(images, r50, factor, resize)
            use = "identity transform" if factor == half else "a training variant"
            ours = f"transform_pixels, factor {factor:g} ({use} of r50)"
            yield gap.row("resize", ours, name, "pixels (grey levels)", remark)
    gap = Gap()
    for resize, _ in RESIZERS.values():
        for image in images:
            gap.add(*_resized(image, vov, identity_transform(vov).resize, resize))
    ours = "transform_pixels, factor 1 (identity transform of vov)"
    yield gap.row("resize", ours, "all six of these", "pixels (grey levels)", "a copy")


def _resize_gap(
    images: Sequence[Pixels],
    camera: CameraBranch,
    factor: float,
    resize: Callable[[Pixels, Size], Pixels],
) -> Gap:
    gap = Gap()
    for image in images:
        gap.add(*_resized(image, camera, factor, resize))
    return gap


def _resized(
    image: Pixels, camera: CameraBranch, factor: float, resize: Callable[[Pixels, Size], Pixels]
) -> tuple[Pixels, Pixels]:
    transform, size = bottom_crop(camera, factor)
    width = min(camera.width_px, size[0])  # beyond it ours is 0: see `cropping`
    ours = transform_pixels(image, transform, camera)[:, :width]
    return ours, resize(image, size)[transform.top_px :, :width]


def cropping(frames: Sequence[RealFrame]) -> Iterator[Row]:
    """Compare crops (also past the border of the image), flips and padding."""
    images = decoded(frames)
    inside, outside, flip, pad = Gap(), Gap(), Gap(), Gap()
    for preset in PRESETS:
        camera = camera_of(preset)
        test = identity_transform(camera)
        corners = np.array([test.left_px, test.top_px, camera.width_px, camera.height_px])
        corners[2:] += corners[:2] - 1  # mmcv includes both corners
        size = bottom_crop(camera, test.resize)[1]
        least, least_size = bottom_crop(camera, camera.resize_lim[0])
        right_bottom = (camera.width_px, least.top_px + camera.height_px)
        for image in images:
            ours = transform_pixels(image, test, camera)
            inside.add(ours, mmcv.imcrop(mmcv.imresize(image, size), corners))
            mirrored = ImageTransform(
                resize=test.resize, left_px=test.left_px, top_px=test.top_px, flip=True
            )
            flip.add(transform_pixels(image, mirrored, camera), mmcv.imflip(ours))
            pad.add(ours, mmcv.impad_to_multiple(ours, DIVISOR))
            small = Image.fromarray(mmcv.imresize(image, least_size))
            theirs = small.crop((0, least.top_px, *right_bottom))
            outside.add(transform_pixels(image, least, camera), np.asarray(theirs))
    name, what = "transform_pixels", "pixels (grey levels)"
    yield inside.row("crop", name, "mmcv.imcrop", what, "both presets, identity transform")
    remark = "smallest training factor: the image is narrower than the crop, the rest is 0"
    yield outside.row("crop past the image", name, "PIL.Image.crop", what, remark)
    yield flip.row("flip", name, "mmcv.imflip", what, "training variants only")
    remark = f"both input sizes are multiples of {DIVISOR}: nothing to pad"
    yield pad.row("pad", "none", f"mmcv.impad_to_multiple({DIVISOR})", what, remark)


def _preprocessed(images: Sequence[Pixels], camera: CameraBranch) -> NDArray[np.float32]:
    processor = Det3DDataPreprocessor(
        mean=camera.mean_bgr, std=camera.std_bgr, pad_size_divisor=DIVISOR
    )
    views = torch.stack([torch.from_numpy(image.copy()).permute(2, 0, 1) for image in images])
    planes: torch.Tensor = processor({"inputs": {"img": [views]}})["inputs"]["imgs"]
    return planes[0].numpy()


def normalising(frames: Sequence[RealFrame]) -> Iterator[Row]:
    """Compare the arithmetic that normalises to mean 0 and standard deviation 1."""
    official, tensor = Gap(), Gap()
    for preset in PRESETS:
        camera = camera_of(preset)
        mean, std = np.array(camera.mean_bgr, np.float32), np.array(camera.std_bgr, np.float32)
        for image in decoded(frames):
            pixels = transform_pixels(image, identity_transform(camera), camera)
            ours = normalised(torch.from_numpy(pixels.transpose(2, 0, 1)), camera).numpy()
            theirs = mmcv.imnormalize(pixels, mean, std, to_rgb=False)
            official.add(ours, theirs.transpose(2, 0, 1))
            tensor.add(ours, _preprocessed([pixels], camera)[0])
    step, name, what = "normalise", "normalised", "input (deviations)"
    remark = "float32, deviation inverted in float64, as in the official code"
    yield official.row(step, name, "mmcv.imnormalize", what, remark)
    remark = "divides by the deviation, all in float32: the same bits for every grey level"
    yield tensor.row(step, name, "mmdet3d Det3DDataPreprocessor", what, remark)


def whole_images(frames: Sequence[RealFrame]) -> Iterator[Row]:
    """Compare the whole path from the JPEG to the network's input."""
    sides: dict[str, tuple[Callable[[bytes], Pixels], Callable[[Pixels, Size], Pixels]]] = {
        "mmcv.imfrombytes, imresize, then mmdet3d Det3DDataPreprocessor": (
            DECODERS["mmcv.imfrombytes, cv2"],
            mmcv.imresize,
        ),
        "PIL.Image.open, resize, then mmdet3d Det3DDataPreprocessor": (_pillow, _pillow_bicubic),
    }
    for preset in PRESETS:
        camera = camera_of(preset)
        transform = identity_transform(camera)
        size = bottom_crop(camera, transform.resize)[1]
        for name, (decode, resize) in sides.items():
            gap = Gap()
            for frame in frames:
                files = [camera_record.file for camera_record in frame.record.cameras]
                resized = [resize(decode(file.read_bytes()), size) for file in files]
                crops = [image[transform.top_px :] for image in resized]
                ours = normalised(torch.from_numpy(load_images(frame.record, camera)[0]), camera)
                gap.add(ours.numpy(), _preprocessed(crops, camera))
            path = f"load_images, {preset.name}"
            remark = "one deviation is 57 to 58 grey levels"
            yield gap.row("images as a whole", path, name, "input (deviations)", remark)
