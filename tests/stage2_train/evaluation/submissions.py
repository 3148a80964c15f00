"""Submissions for tests: ground truth given as prediction, whole or spoilt."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nuscenes.eval.common.loaders import load_gt_of_sample_tokens
from nuscenes.eval.detection.data_classes import DetectionBox

META = dict.fromkeys(
    ("use_camera", "use_lidar", "use_radar", "use_map", "use_external"),
    False,
)


def true_entries(tables: Any, tokens: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the boxes that count (with points in them) as result entries of score 1."""
    truth = load_gt_of_sample_tokens(tables, list(tokens), DetectionBox)
    return {
        token: [
            {
                "sample_token": token,
                "translation": list(box.translation),
                "size": list(box.size),
                "rotation": list(box.rotation),
                "velocity": [float(value) for value in box.velocity],  # may be NaN
                "detection_name": box.detection_name,
                "detection_score": 1.0,
                "attribute_name": box.attribute_name,
            }
            for box in truth[token]
            if box.num_pts > 0
        ]
        for token in tokens
    }


def write_submission(path: Path, results: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"meta": META, "results": results}))
    return path


def spoilt(results: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Return detections with shifts, duplicates, gaps and different scores, for curves."""
    changed = {}
    for token, boxes in results.items():
        changed[token] = []
        for i, box in enumerate(boxes):
            x, y, z = box["translation"]
            score = ((7 * i) % 11) / 11
            shifted = {**box, "translation": [x + 0.3 * (i % 5), y, z], "detection_score": score}
            far = {**box, "translation": [x + 3, y + 3, z], "detection_score": score / 2}
            changed[token] += [shifted] if i % 3 else [far]
            changed[token] += [far] if i % 4 == 1 else []
    return changed
