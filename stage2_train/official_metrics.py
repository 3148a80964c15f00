"""nuscenes-devkit's own detection metrics, also for stores that hold only part of a split."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shared.errors import DatasetError


def official_metrics(
    results: Path, nuscenes_root: Path, version: str, tokens: Sequence[str], out: Path
) -> dict[str, Any]:
    """Evaluate a result JSON with nuscenes-devkit (detection_cvpr_2019).

    Args:
        results: official result JSON holding exactly `tokens`.
        nuscenes_root: folder with the tables of `version`.
        version: e.g. "v1.0-mini".
        tokens: the samples to evaluate. If they are not a whole official split, ground truth is
            restricted to them, and the numbers compare with nothing published.
        out: folder for `metrics_summary.json` and the devkit's own files.

    Returns:
        The devkit's metrics summary, with `samples` and `split` (None if not a whole one) added.

    Raises:
        DatasetError: if the devkit, the tables or one of the samples is missing.
    """
    try:
        from nuscenes import NuScenes
    except ImportError as error:
        raise DatasetError(
            "official metrics need nuscenes-devkit: pip install 'frozen-cmt[evaluate]'"
        ) from error
    if not (nuscenes_root / version).is_dir():
        raise DatasetError(
            f"{nuscenes_root} has no tables of {version}; name the nuScenes root that the store "
            "was made from, or leave --nuscenes out to write only the result JSON"
        )
    tables = NuScenes(version, str(nuscenes_root), verbose=False)
    known = {sample["token"] for sample in tables.sample}
    unknown = [token for token in tokens if token not in known]
    if unknown:
        raise DatasetError(
            f"{len(unknown)} of {len(tokens)} samples (first {unknown[0]}) are not in the "
            f"{version} tables of {nuscenes_root}; name the root the store was made from"
        )
    summary: dict[str, Any] = _evaluation(tables, results, tokens, out).main(
        plot_examples=0, render_curves=False
    )
    summary |= {"samples": len(tokens), "split": _whole_split(tables, set(tokens))}
    (out / "metrics_summary.json").write_text(json.dumps(summary, indent=2))
    return summary


def _whole_split(tables: Any, tokens: set[str]) -> str | None:
    """Return the official split that the samples are, if they are one."""
    from nuscenes.utils.splits import create_splits_scenes

    scene_of = {
        sample["token"]: tables.get("scene", sample["scene_token"])["name"]
        for sample in tables.sample
    }
    # Official splits of mini and trainval share scenes; only those of this version count.
    is_mini = tables.version.endswith("mini")
    for split, scenes in create_splits_scenes().items():
        if (
            split.startswith("mini") == is_mini
            and {token for token, scene in scene_of.items() if scene in set(scenes)} == tokens
        ):
            return str(split)
    return None


def _evaluation(tables: Any, results: Path, tokens: Sequence[str], out: Path) -> Any:
    """Return the devkit's evaluation of these samples, boxes loaded and filtered its way."""
    from nuscenes.eval.common.config import config_factory
    from nuscenes.eval.common.loaders import (
        add_center_dist,
        filter_eval_boxes,
        load_gt_of_sample_tokens,
        load_prediction_of_sample_tokens,
    )
    from nuscenes.eval.detection.data_classes import DetectionBox
    from nuscenes.eval.detection.evaluate import DetectionEval

    config = config_factory("detection_cvpr_2019")
    samples = list(tokens)
    found, meta = load_prediction_of_sample_tokens(
        str(results), config.max_boxes_per_sample, DetectionBox, sample_tokens=samples
    )
    truth = load_gt_of_sample_tokens(tables, samples, DetectionBox)
    # The devkit's constructor takes names of splits only; what it would load is set by hand.
    evaluation = DetectionEval.__new__(DetectionEval)
    evaluation.nusc = tables
    evaluation.result_path = str(results)
    evaluation.eval_set = "given samples"
    evaluation.output_dir = str(out)
    evaluation.plot_dir = str(out / "plots")
    evaluation.verbose = False
    evaluation.cfg = config
    evaluation.meta = meta
    evaluation.sample_tokens = samples
    for name, boxes in (("pred_boxes", found), ("gt_boxes", truth)):
        with_distance = add_center_dist(tables, boxes)
        kept = filter_eval_boxes(tables, with_distance, config.class_range)
        setattr(evaluation, name, kept)
    return evaluation
