"""The detector of a training run or of an official checkpoint, for evaluation."""

import logging
from pathlib import Path

from shared.checkpoint.strict_loading import load_parts
from shared.config.aqr_config import aqr_config_from_json
from shared.config.config_json import from_json
from shared.config.preset import Preset
from shared.data.feature_store import FeatureStore
from shared.model.detector import CmtDetector, build_detector
from shared.model.initial_detector import aqr_config_of, fresh_detector
from stage2_train.run.run_checkpoint import is_run_checkpoint, read_run_checkpoint, trained_weights
from stage2_train.run.starting_point import require_backbones, require_features

log = logging.getLogger(__name__)


def load_detector(run: Path, store: FeatureStore) -> CmtDetector:
    """Build a detector and check that its features are the store's.

    Args:
        run: run folder or checkpoint of `train-stage2`, or an official CMT checkpoint.
        store: whose features it will read.

    Raises:
        CheckpointError: if `run` is none of these, of a different preset, or trained with a model
            that had other parameters.
        IdentityError: if it was trained on features of different weights or preprocessing.
    """
    if not is_run_checkpoint(run):
        require_backbones(run, store)
        aqr = aqr_config_of(run)
        return fresh_detector(store.preset, store.cut, seed=0, checkpoint=run, aqr=aqr)
    saved = read_run_checkpoint(run)
    require_features(saved, run, store)
    sources = store.sources_digest
    is_memory = sources is not None and saved.get("sources") == sources
    note = ", trained on samples of this very store: scores say what it memorised"
    log.info("%s: step %d%s", run, saved["step"], note if is_memory else "")
    aqr = None if saved["aqr"] is None else aqr_config_from_json(saved["aqr"])
    detector = build_detector(from_json(Preset, saved["preset"]), store.cut, aqr)
    load_parts(detector, trained_weights(saved), detector.parts, path=run)
    return detector
