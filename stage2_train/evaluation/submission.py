"""A nuScenes detection submission, checked before anything is computed.

nuscenes-devkit would stop at the first fault with an assertion that names neither sample nor box.
What it accepts is accepted here, including NaN velocities, which ground truth has.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.config.classes import CLASS_NAMES
from shared.errors import DatasetError
from stage2_train.evaluation.official_attributes import MOVING_ATTRIBUTE, RESTING_ATTRIBUTE

MAX_BOXES = 500  # per sample, official
NUMBERS = {"translation": 3, "size": 3, "rotation": 4, "velocity": 2}
KEYS = ("sample_token", *NUMBERS, "detection_name", "detection_score", "attribute_name")
ATTRIBUTES = {
    "",
    "pedestrian.sitting_lying_down",
    *MOVING_ATTRIBUTE.values(),
    *RESTING_ATTRIBUTE.values(),
}
META = "use_camera, use_lidar, use_radar, use_map, use_external"


@dataclass(frozen=True, kw_only=True, slots=True)
class Submission:
    """A checked submission.

    Args:
        path: the file.
        tokens: its samples, in the file's order, by which the official tool breaks ties.
        boxes: number of boxes of all samples.
    """

    path: Path
    tokens: tuple[str, ...]
    boxes: int


def read_submission(path: Path) -> Submission:
    """Read a result JSON of nuScenes detection and check every box.

    Raises:
        DatasetError: naming file, sample, box and field, if the official tool would not accept it.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"{path} cannot be read as JSON ({error}); expected a nuScenes detection submission: "
            '{"meta": {...}, "results": {sample token: [boxes]}}'
        ) from error
    for key, inside in (("meta", META), ("results", "a list of boxes for every sample token")):
        if not isinstance(content, dict) or not isinstance(content.get(key), dict):
            raise DatasetError(
                f'{path} is no nuScenes detection submission: expected an object "{key}" with '
                f"{inside}"
            )
    results = content["results"]
    if not results:
        raise DatasetError(f'{path}: "results" is empty, so there is no sample to evaluate')
    for token, boxes in results.items():
        _check_sample(f"{path}, sample {token}", token, boxes)
    return Submission(
        path=path, tokens=tuple(results), boxes=sum(len(boxes) for boxes in results.values())
    )


def _check_sample(where: str, token: str, boxes: Any) -> None:
    if not isinstance(boxes, list):
        raise DatasetError(f"{where}: expected a list of boxes, got {_short(boxes)}")
    if len(boxes) > MAX_BOXES:
        raise DatasetError(
            f"{where}: {len(boxes)} boxes, nuScenes takes at most {MAX_BOXES}; keep those with "
            "the highest scores"
        )
    for index, box in enumerate(boxes):
        fault = _fault(box, token)
        if fault:
            raise DatasetError(f"{where}, box {index}: {fault}")


def _fault(box: Any, token: str) -> str | None:
    """Return what is wrong with one box, None if nothing is."""
    if not isinstance(box, dict):
        return f"expected an object with {', '.join(KEYS)}, got {_short(box)}"
    missing = [key for key in KEYS if key not in box]
    if missing:
        return f"no {', '.join(missing)}; a box has {', '.join(KEYS)}"
    if box["sample_token"] != token:
        return f"its sample_token is {_short(box['sample_token'])}, not the token of the sample"
    if box["detection_name"] not in CLASS_NAMES:
        known = ", ".join(CLASS_NAMES)
        return f"detection_name is {_short(box['detection_name'])}; nuScenes knows {known}"
    if box["attribute_name"] not in ATTRIBUTES:
        known = ", ".join(sorted(ATTRIBUTES - {""}))
        return f'attribute_name is {_short(box["attribute_name"])}; expected {known}, or ""'
    if not _is_number(box["detection_score"]) or not math.isfinite(box["detection_score"]):
        return f"detection_score is {_short(box['detection_score'])}; expected a finite number"
    return _number_fault(box)


def _number_fault(box: dict[str, Any]) -> str | None:
    for key, length in NUMBERS.items():
        values = box[key]
        if (
            not isinstance(values, list)
            or len(values) != length
            or not all(map(_is_number, values))
        ):
            return f"{key} is {_short(values)}; expected {length} numbers"
        is_unknown_velocity = key == "velocity" and not any(map(math.isinf, values))
        if not all(map(math.isfinite, values)) and not is_unknown_velocity:
            return f"{key} is {_short(values)}; expected finite numbers"
    if min(box["size"]) <= 0:
        return f"size is {_short(box['size'])}; expected width, length and height above 0 m"
    if not any(box["rotation"]):
        return "rotation is zero; expected a quaternion w, x, y, z"
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
