"""What every condition of ours does to a small made-up scene, in a few numbers: a table to keep.

    python -m tests.stage1_extract.conditions.pinned_effects     # after a revision was raised

An entry has a digest of which sensors are touched and, of what differs from the clean scene, counts
and numbers with tolerances, which digests could not have: OpenCV and the C library may round
differently on another machine, a pixel by a level and a point by a float32 step. Of points and
poses these are means in which every number has weights of its own, so that each of them counts; of
images the mean level and the levels of a few pixels.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.config.classes import CAMERAS
from shared.digests import json_digest
from stage1_extract.conditions.apply_condition import changed_poses, changes_of
from stage1_extract.conditions.catalogue.condition_catalogue import CATALOGUE, load_condition
from stage1_extract.conditions.condition import Condition, Pixels, Points
from stage1_extract.conditions.sample_edits import Edit, SampleEdits, StuckAt
from stage1_extract.nuscenes.records import SampleRecord
from tests.stage1_extract.conditions.frames import INTRINSICS, LOOKS_FORWARD, boxes, record

TABLE = Path(__file__).with_name("pinned_effects.json")
COMMAND = "python -m tests.stage1_extract.conditions.pinned_effects"
SAMPLES, WITH_POINTS, WITH_IMAGES = 80, 12, 2  # in two recordings; images are of two cameras
HEIGHT_PX, WIDTH_PX = 96, 320
WEIGHTED_MEANS, PIXELS = 3, 40
# Points: of a mean, a float32 step at 60 m in each twentieth number. Pixels: in levels, of the mean
# and of a pixel.
MEAN_TOLERANCE, LEVEL_TOLERANCE, PIXEL_TOLERANCE = 1e-7, 0.02, 1

Effect = dict[str, Any]
Table = Mapping[str, Mapping[str, Any]]


def numbers(seed: int, *shape: int) -> NDArray[np.float64]:
    """Return the first numbers in [0, 1) of PCG64, which NumPy promises not to change."""
    return np.random.Generator(np.random.PCG64(seed)).random(shape)


def scene() -> list[SampleRecord]:
    """Return samples with boxes, and cameras that look ahead and back."""
    samples = []
    for number in range(SAMPLES):
        recording, place = divmod(number, SAMPLES // 2)
        frame = record(place, scene=f"recording-{recording}", step_us=500_000)
        x, y, yaw = ((2 * numbers(number, 3, 6) - 1) * [[25], [25], [np.pi]]).tolist()
        rows = [[*at, -1, 4, 3, 3, turn] for *at, turn in zip(x, y, yaw, strict=True)]
        turned = [
            replace(view, rotation=np.diag([1.0, -1, 1]) @ LOOKS_FORWARD @ np.diag([-1.0, 1, 1]))
            if view.name == "CAM_BACK"
            else view
            for view in frame.cameras
        ]
        scaled = INTRINSICS * [[0.2], [0.1], [1]]  # for pictures of 320 x 96 of 1600 x 900
        cameras = tuple(replace(view, intrinsics=scaled) for view in turned)
        samples.append(
            replace(frame, annotations=boxes(*rows, points=[9, 9, 9, 9, 9, 0]), cameras=cameras)
        )
    return samples


def cloud(number: int) -> Points:
    """Return the points of a sensor with 32 rings, (1600, 5) float32, whole intensities."""
    range_share, turn, jitter, intensity = numbers(100 + number, 4, 32, 50)
    ring = np.arange(32.0)[:, None] + np.zeros((1, 50))
    elevation_rad = np.radians(-30.67 + 1.333 * (ring + jitter - 0.5))
    range_m, azimuth_rad = 2 + 58 * range_share**2, 2 * np.pi * turn
    flat_m = range_m * np.cos(elevation_rad)
    columns = [flat_m * np.sin(azimuth_rad), flat_m * np.cos(azimuth_rad)]
    columns += [range_m * np.sin(elevation_rad), np.floor(256 * intensity), ring]
    return np.stack(columns, axis=-1).reshape(-1, 5).astype(np.float32)


def picture(number: int) -> Pixels:
    """Return a picture with smooth colours and some noise, levels 10 to 240, black and white."""
    row, column = np.indices((HEIGHT_PX, WIDTH_PX))[:, :, :, None]
    waves = np.arange(1, 4) * (row / HEIGHT_PX + number) + column / WIDTH_PX
    smooth = 4 * np.abs(waves % 1 - 0.5) - 1  # triangles, -1 to 1
    noise = 2 * numbers(200 + number, HEIGHT_PX, WIDTH_PX, 3) - 1
    levels = np.rint(125 + 80 * smooth + 35 * noise).astype(np.uint8)
    levels[-9:, :9], levels[-9:, -9:] = 0, 255
    return levels


def effect_of(condition: Condition) -> Effect:
    """Return what a condition does to the scene, in numbers; nothing of what it leaves alone."""
    clean = _scene_under(replace(condition, edits=_touch_nothing, camera_poses=None))
    effect = _scene_under(condition)
    return {name: effect[name] for name in effect if name == "edits" or effect[name] != clean[name]}


def _touch_nothing(records: Sequence[SampleRecord], condition: Condition) -> list[SampleEdits]:
    return [SampleEdits()] * len(records)


def _scene_under(condition: Condition) -> Effect:
    frames = scene()
    changes = changes_of(condition, frames)
    files, merged, images, poses = [], [], [], []
    for number, change in enumerate(changes[:WITH_POINTS]):
        files.append(change.lidar_file(cloud(number), change.record.lidar_file))
        lagging = cloud(number) * np.float32([1, 1, 1, 1, 0.01])  # as if the ring were a time
        merged.append(change.merged_points(lagging))
        if number < WITH_IMAGES:
            images += [
                change.image(picture(number), view, lambda number=number: cloud(number))
                for view in change.record.cameras
                if view.name in ("CAM_FRONT", "CAM_BACK")
            ]
        cameras = changed_poses(condition, change.record).cameras
        poses += [array for view in cameras for array in (view.rotation, view.translation_m)]
    edits = [_edits(change.edits.lidar, change.edits.cameras) for change in changes]
    return {
        "edits": json_digest(edits)[:16],
        "lidar_file": weighted_means(files),
        "merged_points": weighted_means(merged),
        "images": levels(images),
        "poses": weighted_means(poses),
    }


def _edits(lidar: Edit | None, cameras: Mapping[str, Edit]) -> list[str]:
    every = (lidar, *(cameras.get(camera) for camera in CAMERAS))
    return [f"stuck at {edit.token}" if isinstance(edit, StuckAt) else str(edit) for edit in every]


def weighted_means(arrays: list[Any]) -> list[float]:
    """Return how many numbers there are, and means of them with weights from 0 to 1."""
    flat = np.concatenate([array.ravel().astype(np.float64) for array in arrays])
    weights = numbers(1, flat.size, WEIGHTED_MEANS)
    return [flat.size, *(float(f"{mean:.9f}") for mean in flat @ weights / max(flat.size, 1))]


def levels(images: list[Pixels]) -> list[float]:
    """Return how many levels there are, their mean, and some of them."""
    flat = np.stack(images).ravel()
    places = (numbers(2, PIXELS) * flat.size).astype(np.intp)
    return [flat.size, float(f"{flat.mean():.4f}"), *flat[places].tolist()]


def differences(effect: Effect, pinned: Mapping[str, Any]) -> list[str]:
    """Return in words what differs by more than rounding."""
    lines = [] if effect["edits"] == pinned["edits"] else ["it touches different sensors"]
    for name in dict.fromkeys([*effect, *pinned]):
        if name == "edits":
            continue
        if name not in effect or name not in pinned:
            lines.append(f"it {'changes' if name in effect else 'leaves alone'} {name}")
            continue
        tolerances = [MEAN_TOLERANCE] * WEIGHTED_MEANS
        if name == "images":
            tolerances = [LEVEL_TOLERANCE, *[PIXEL_TOLERANCE] * PIXELS]
        off = np.abs(np.subtract(effect[name], pinned[name])) > [0, *tolerances]
        if off.any():
            at = int(off.argmax())
            lines.append(f"{name}: {effect[name][at]} instead of {pinned[name][at]}")
    return lines


def fault(condition: Condition, table: Table) -> str:
    """Return how a condition contradicts its entry in the table, and what to do; "" if it does not.

    A higher revision may do anything.
    """
    name, pinned = condition.name, table.get(condition.name)
    if pinned is None or condition.revision > pinned["revision"]:
        return ""
    revision = pinned["revision"]
    if condition.revision < revision:
        return f"{name} has had revision {revision}; do not give its Condition a lower one"
    changed = differences(effect_of(condition), pinned["effect"])
    if not changed:
        return ""
    return (
        f"{name} does something else than revision {revision} did ({'; '.join(changed)}), which is "
        f"in deltas that exist. If it is meant, give its Condition revision={revision + 1} and run "
        f"{COMMAND}"
    )


def read_table() -> Table:
    """Return the table in the repository."""
    table: Table = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    return table


def main() -> int:
    """Write the table anew, unless a condition changed without a higher revision."""
    table, conditions = read_table(), [load_condition(name) for name in CATALOGUE]
    faults = [text for condition in conditions if (text := fault(condition, table))]
    if faults:
        print(*faults, "Nothing was written.", sep="\n", file=sys.stderr)
        return 1
    new = {c.name: {"revision": c.revision, "effect": effect_of(c)} for c in conditions}
    lines = [f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in new.items()]
    TABLE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
