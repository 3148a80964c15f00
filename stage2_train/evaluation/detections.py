"""Detections in nuScenes' own form: global frame, nuScenes names, the official result JSON.

n boxes of a frame. Size is (width, length, height) in nuScenes, (length, width, height) in ours.

Source: mmdet3d 1.0.0rc5, nuscenes_dataset.py `_format_bbox` and `lidar_nusc_box_to_global`.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from shared.config.classes import CLASS_NAMES
from shared.config.preset import Preset
from shared.data.batch import Batch
from shared.data.feature_store import FeatureStore
from shared.data.features import Frame
from shared.errors import CheckpointError
from shared.model.box_coder import Detections, decode_boxes
from shared.model.detector import CmtDetector
from shared.model.outputs import HeadOutputs
from shared.process.device import available_device
from shared.process.whole_file import whole_file
from stage2_train.evaluation.mean_weights import MeanSensorWeights
from stage2_train.evaluation.official_attributes import MOVING_ATTRIBUTE, RESTING_ATTRIBUTE

# nuScenes evaluates each class within this distance of the ego vehicle (detection_cvpr_2019).
RANGE_M = {
    "car": 50.0,
    "truck": 50.0,
    "construction_vehicle": 50.0,
    "bus": 50.0,
    "trailer": 50.0,
    "barrier": 30.0,
    "motorcycle": 40.0,
    "bicycle": 40.0,
    "pedestrian": 40.0,
    "traffic_cone": 30.0,
}
MOVING_MPS = 0.2  # official: above it a vehicle moves and a cycle has a rider


@torch.inference_mode()
def detect(
    detector: CmtDetector,
    batches: Iterable[Batch],
    store: FeatureStore,
    weights: MeanSensorWeights | None = None,
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Run a detector over batches; yield every sample's token and nuScenes result entries.

    Args:
        detector: moved to the GPU if there is one, and put in eval mode.
        batches: of samples of the store.
        store: says where those samples were recorded.
        weights: gets the sensor weights of all queries.

    Raises:
        CheckpointError: if what the detector makes of a sample is no box, see `are_boxes`.
    """
    detector.to(available_device()).eval()
    for batch in tqdm(batches, unit="batch", disable=None):
        outputs = detector(batch.to(detector.device))
        decoded = decode_boxes(outputs, store.preset.head)
        if not are_boxes(outputs, decoded):
            raise CheckpointError(
                f"what the detector makes of samples {', '.join(batch.tokens)} is not finite, or "
                "has sizes of 0, so it cannot be evaluated: its weights are damaged, or training "
                "has diverged. Take an earlier checkpoint, or check the store with `feature-cache "
                "verify`"
            )
        if weights is not None:
            weights.add(outputs.sensor_weights)
        for token, detections in zip(batch.tokens, decoded, strict=True):
            yield token, to_nuscenes(detections, store.frame(token))


def are_boxes(outputs: HeadOutputs, decoded: Iterable[Detections]) -> bool:
    """Return whether all outputs are finite, and so are the boxes, with sizes above 0.

    Sizes are exponentials: of a finite code they can be infinite or 0, which no result JSON takes.
    """
    last = torch.cat([outputs.codes[-1], outputs.class_logits[-1]], dim=-1)
    boxes = torch.cat([detections.boxes_lidar for detections in decoded])  # (n, 9)
    are_finite = last.isfinite().all() & boxes.isfinite().all()
    return bool(are_finite & (boxes[:, 3:6] > 0.0).all())


def to_nuscenes(detections: Detections, frame: Frame) -> list[dict[str, Any]]:
    """Return a frame's detections as nuScenes result entries, without those out of range."""
    boxes = detections.boxes_lidar.detach().cpu().double().numpy()  # (n, 9)
    scores = detections.scores.detach().cpu().numpy()
    labels = detections.labels.detach().cpu().numpy()
    ego, world = frame.ego_from_lidar, frame.global_from_ego
    heading = Rotation.from_rotvec(np.outer(boxes[:, 6], [0.0, 0.0, 1.0]))
    turned = Rotation.from_matrix(world[:3, :3] @ ego[:3, :3]) * heading if len(boxes) else heading
    centres_ego = boxes[:, :3] @ ego[:3, :3].T + ego[:3, 3]  # (n, 3)
    centres = centres_ego @ world[:3, :3].T + world[:3, 3]  # (n, 3)
    flat = np.concatenate([boxes[:, 7:9], np.zeros((len(boxes), 1))], axis=1)
    velocities = (flat @ (world[:3, :3] @ ego[:3, :3]).T)[:, :2]  # (n, 2)
    names = [CLASS_NAMES[label] for label in labels.tolist()]
    columns = (
        np.linalg.norm(centres_ego[:, :2], axis=1),
        centres,
        boxes[:, [4, 3, 5]],
        turned.as_quat()[:, [3, 0, 1, 2]],  # w, x, y, z
        velocities,
        np.linalg.norm(velocities, axis=1),
        scores,
    )
    per_box = zip(names, *(column.tolist() for column in columns), strict=True)
    return [
        {
            "sample_token": frame.token,
            "translation": centre,
            "size": size,
            "rotation": rotation,
            "velocity": velocity,
            "detection_name": name,
            "detection_score": score,
            "attribute_name": _attribute(name, speed_mps),
        }
        for name, distance_m, centre, size, rotation, velocity, speed_mps, score in per_box
        if distance_m <= RANGE_M[name]
    ]


def _attribute(name: str, speed_mps: float) -> str:
    """Guess the nuScenes attribute from class and speed, as the official code does."""
    table = MOVING_ATTRIBUTE if speed_mps > MOVING_MPS else RESTING_ATTRIBUTE
    return table.get(name, "")


def write_results(
    path: Path, results: Iterable[tuple[str, list[dict[str, Any]]]], preset: Preset
) -> None:
    """Write the official result JSON atomically, one sample after the other.

    Args:
        path: of the file.
        results: token and entries of every sample; all of them together may not fit in memory.
        preset: says which sensors were used.
    """
    meta = {
        "use_camera": preset.camera is not None,
        "use_lidar": preset.lidar is not None,
        "use_radar": False,
        "use_map": False,
        "use_external": False,
    }
    with whole_file(path, "w") as file:
        file.write(f'{{"meta": {json.dumps(meta)}, "results": {{')
        separator = ""
        for token, entries in results:
            file.write(f"{separator}{json.dumps(token)}: {json.dumps(entries, allow_nan=False)}")
            separator = ", "
        file.write("}}")
