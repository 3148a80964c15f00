"""Which damage to a JPEG the decoder notices, and what the checks of inputs cost.

    python -m benchmarks.validation.damaged_inputs FRAMES      # under a minute on one core
    python -m benchmarks.validation.damaged_inputs FRAMES --json FILE

FRAMES is a folder of nuScenes with samples/. Damage is done to copies, to the entropy-coded data
only, at random places (seeded). An image counts as noticed if it is refused. Times are medians of
several per file, averaged over files.
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from shared.errors import DatasetError
from stage1_extract.preprocessing.images import decode_jpeg
from stage1_extract.preprocessing.point_checks import require_plausible
from stage1_extract.preprocessing.sweeps import read_points

HEIGHT_PX, WIDTH_PX = 900, 1600
TRIES, SEED, REPEATS = 100, 0, 10
HOLES_BYTES, FLIPS = (16, 512, 4096), (1, 4, 16)


def entropy_coded(jpeg: bytes) -> int:
    """Return where the entropy-coded data of a baseline JPEG begins."""
    scan = jpeg.index(b"\xff\xda")
    return scan + 2 + int.from_bytes(jpeg[scan + 2 : scan + 4], "big")


def hole(jpeg: bytes, size: int, draw: random.Random) -> bytes:
    start = draw.randrange(entropy_coded(jpeg), len(jpeg) - 2 - size)
    return jpeg[:start] + bytes(size) + jpeg[start + size :]


def flips(jpeg: bytes, count: int, draw: random.Random) -> bytes:
    damaged = bytearray(jpeg)
    for _ in range(count):
        damaged[draw.randrange(entropy_coded(jpeg), len(jpeg) - 2)] ^= 1 << draw.randrange(8)
    return bytes(damaged)


def cut(jpeg: bytes, _: int, draw: random.Random) -> bytes:
    return jpeg[: draw.randrange(entropy_coded(jpeg), len(jpeg) - 2)] + b"\xff\xd9"


def noticed(files: Sequence[Path], damage: Callable[..., bytes], size: int, tries: int) -> int:
    """Return how many of `tries` damaged images are refused."""
    draw = random.Random(SEED)
    refused = 0
    with tempfile.TemporaryDirectory() as folder:
        bad = Path(folder) / "image.jpg"
        for number in range(tries):
            bad.write_bytes(damage(files[number % len(files)].read_bytes(), size, draw))
            try:
                decode_jpeg(bad, HEIGHT_PX, WIDTH_PX)
            except DatasetError:
                refused += 1
    return refused


def mean_ms(work: Callable[[Any], Any], things: Sequence[Any]) -> float:
    """Return the mean over all things of the median of several times, in milliseconds."""
    times_s = np.empty((REPEATS, len(things)))
    for row in times_s:
        for index, thing in enumerate(things):
            start = time.perf_counter()
            work(thing)
            row[index] = time.perf_counter() - start
    return round(float(np.median(times_s, axis=0).mean()) * 1000, 3)


def with_opencv(file: Path) -> object:
    return cv2.imdecode(np.frombuffer(file.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)


def measure(frames: Path, tries: int) -> dict[str, Any]:
    images = sorted(frames.glob("samples/CAM*/*.jpg"))
    clouds = sorted(frames.glob("samples/LIDAR_TOP/*.bin"))
    damages = [("cut and closed", cut, 0)]
    damages += [(f"hole of {size} bytes", hole, size) for size in HOLES_BYTES]
    damages += [(f"{count} flipped bits", flips, count) for count in FLIPS]
    points = [(read_points(file), file) for file in clouds]
    return {
        "tries": tries,
        "noticed": {name: noticed(images, damage, n, tries) for name, damage, n in damages},
        "ms": {
            "decode_jpeg": mean_ms(lambda file: decode_jpeg(file, HEIGHT_PX, WIDTH_PX), images),
            "cv2.imdecode": mean_ms(with_opencv, images),
            "read_points": mean_ms(read_points, clouds),
            "require_plausible": mean_ms(lambda pair: require_plausible(*pair), points),
        },
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("frames", type=Path)
    parser.add_argument("--tries", type=int, default=TRIES, help=f"per damage (default {TRIES})")
    parser.add_argument("--json", type=Path, help="write the result there, too")
    args = parser.parse_args(arguments)
    result = measure(args.frames, args.tries)
    print(json.dumps(result, indent=2))
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
