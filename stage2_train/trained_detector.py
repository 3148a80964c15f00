"""The detector of a finished or running training, or of an official checkpoint, for evaluation."""

from pathlib import Path
from typing import Any

from cache.reader import CachedFeatures
from shared.config import Preset
from shared.config_json import from_json
from shared.errors import IdentityError
from shared.model.detector import CmtDetector, build_detector
from shared.model.fresh import fresh_detector
from stage2_train.backbones import require_backbones
from stage2_train.run_folder import is_run_checkpoint, read_run_checkpoint


def load_detector(run: Path, store: CachedFeatures) -> CmtDetector:
    """Build a detector and check that its features are the store's.

    Args:
        run: run folder or checkpoint of `train-stage2`, or an official CMT checkpoint.
        store: what it will look at.

    Raises:
        CheckpointError: if `run` is none of these, or of another preset.
        IdentityError: if it was trained on features of other weights or preprocessing.
    """
    if not is_run_checkpoint(run):
        require_backbones(run, store)
        return fresh_detector(store.preset, store.cut, seed=0, checkpoint=run)
    saved = read_run_checkpoint(run)
    preset = from_json(Preset, saved["preset"])
    if saved["features"] != store.features_digest:
        raise IdentityError(
            f"{run} was trained on features made from other backbone weights or other "
            f"preprocessing than those of {store.path}; evaluate on a store of the same extraction "
            "(`feature-cache show` prints what a store was made from)"
        )
    detector = build_detector(preset, store.cut)
    detector.load_state_dict(_weights_to_evaluate(saved))
    return detector


def _weights_to_evaluate(saved: dict[str, Any]) -> dict[str, Any]:
    """Return the weights of a run's checkpoint that stand for it: averaged ones if it has them."""
    weights: dict[str, Any] = saved["ema"] if saved.get("ema") else saved["state_dict"]
    return weights
