"""The official metrics of a detector on prepared frames, with and without sensors."""

from pathlib import Path
from typing import Any

import torch

from benchmarks.experiments.pretrain_tiny.prepared_frames import PreparedFrames
from benchmarks.experiments.strategies.live_frames import live_batches
from shared.config.classes import CAMERAS, LIDAR
from shared.data.sensor_drop import NOTHING, Absent, condition
from shared.model.box_coder import decode_boxes
from shared.model.detector import CmtDetector
from shared.synthetic_nuscenes.world.synthetic_config import VERSION
from stage2_train.data.sampler import Place
from stage2_train.evaluation.detections import to_nuscenes, write_results
from stage2_train.evaluation.official_metrics import official_metrics

BATCH_SIZE = 4
CONDITIONS: tuple[Absent, ...] = (NOTHING, (LIDAR,), CAMERAS)


def judge_detector(
    detector: CmtDetector, frames: PreparedFrames, root: Path, out: Path
) -> dict[str, dict[str, Any]]:
    """Score the detector on all frames as recorded, by nuscenes-devkit.

    Args:
        detector: on its device; put into eval mode.
        frames: of a single scene set.
        root: of that set.
        out: folder for the devkit's files.

    Returns:
        For everything present, without LiDAR and without cameras: mAP, NDS and AP by class.
    """
    detector.eval()
    scores = {}
    for absent in CONDITIONS:
        name = condition(absent)
        folder = out / name.replace(" ", "_")
        folder.mkdir(parents=True, exist_ok=True)
        summary = _metrics(detector, frames, absent, root, folder)
        scores[name] = {
            "mAP": summary["mean_ap"],
            "NDS": summary["nd_score"],
            "AP": summary["mean_dist_aps"],
        }
    return scores


@torch.inference_mode()
def _metrics(
    detector: CmtDetector, frames: PreparedFrames, absent: Absent, root: Path, out: Path
) -> dict[str, Any]:
    preset = frames.preparation.preset
    places = [Place(0, sample, absent) for sample in range(len(frames))]
    batches = [places[i : i + BATCH_SIZE] for i in range(0, len(places), BATCH_SIZE)]
    results = {}
    for batch in live_batches(frames, batches):
        decoded = decode_boxes(detector(batch.to(detector.device)), preset.head)
        for token, detections in zip(batch.tokens, decoded, strict=True):
            results[token] = to_nuscenes(detections, frames.frame(token))
    file = out / "results_nusc.json"
    write_results(file, results.items(), preset)
    return official_metrics(file, root, VERSION, list(results), out)
