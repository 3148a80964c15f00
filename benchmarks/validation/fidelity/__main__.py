"""Compare our preprocessing of two real frames with mmdet3d, mmcv, Pillow, torch and the devkit.

    python -m benchmarks.validation.fidelity ../shared/nuscenes_real
    python -m benchmarks.validation.fidelity FRAMES --json benchmarks/results/fidelity.json

Every step runs twice, with our function and with the other library's, and the table states by how
much the numbers differ. docs/fidelity.md contains it, with the reasons.
"""

import json
import logging
import re
import warnings
from dataclasses import asdict
from importlib.metadata import distributions
from pathlib import Path

import cv2
from PIL import features

from benchmarks.validation.fidelity import boxes, geometry, images, points, voxels
from benchmarks.validation.fidelity.rows import INFOS, TOKENS, markdown, real_frames
from shared.process.command import command_parser

STEPS = (
    images.decoding,
    images.resizing,
    images.cropping,
    images.normalising,
    images.whole_images,
    geometry.projecting,
    geometry.resampling,
    points.reading,
    points.merging_sweeps,
    voxels.voxelising,
    voxels.sparse_shape,
    voxels.averaging,
    boxes.box_classes,
    boxes.filtering,
    boxes.devkit_boxes,
)
LIBRARIES = (
    *("mmdet3d", "mmcv", "mmcv-lite", "mmdet", "spconv-cu118", "nuscenes-devkit"),
    *("opencv-python-headless", "pillow", "torch", "numpy"),
)


def library_versions() -> dict[str, str]:
    """Return the versions of what is installed, and of libjpeg-turbo in OpenCV and in Pillow."""
    installed = {library.name: library.version for library in distributions()}
    (inside_opencv,) = re.findall(r"JPEG: +.*\(ver ([\d.]+)", cv2.getBuildInformation())
    return {name: installed[name] for name in LIBRARIES if name in installed} | {
        "libjpeg-turbo of OpenCV": inside_opencv,
        "libjpeg-turbo of Pillow": str(features.version_feature("libjpeg_turbo")),
    }


def main(argv: list[str] | None = None) -> None:
    """Compare every step and print the table."""
    parser = command_parser(__doc__, "python -m benchmarks.validation.fidelity")
    parser.add_argument("root", type=Path, help="the folder of real frames, nuscenes_real")
    parser.add_argument("--json", type=Path, help="write the rows here too")
    arguments = parser.parse_args(argv)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")  # of other packages, on import
    if not (arguments.root / INFOS).is_file():
        parser.error(f"{arguments.root} holds no {INFOS}; name the folder of real frames")
    frames = real_frames(arguments.root.absolute())
    rows = [row for step in STEPS for row in step(frames)]
    versions = library_versions()
    print(markdown(rows))
    print("\n" + ", ".join(f"{name} {number}" for name, number in versions.items()))
    if arguments.json is not None:
        document = {
            "frames": TOKENS,
            "versions": versions,
            "rows": [asdict(row) for row in rows],
        }
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
