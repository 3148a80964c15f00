"""Detect objects from a feature store and a checkpoint; score them as nuScenes does.

    evaluate-stage2 /data/r50_val.zarr runs/a --out runs/a/val --nuscenes /data/nuscenes
    evaluate-stage2 /data/r50_val.zarr cmt.pth --out val --nuscenes /data/nuscenes

Writes results_nusc.json, which the official tool accepts; with --nuscenes (a root that has the
tables) also the official metrics, as metrics_summary.json.
"""

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from cache.reader import CachedFeatures
from cache.storage import store_path
from shared.command import run_command
from shared.config import Preset
from shared.config_json import from_json
from shared.errors import IdentityError
from shared.model.aqr.config import AqrConfig
from shared.model.box_coder import decode_boxes
from shared.model.detector import CmtDetector, build_detector
from shared.model.fresh import fresh_detector
from stage2_train.backbones import require_backbones
from stage2_train.dataset import StoreDataset
from stage2_train.detections import to_nuscenes, write_results
from stage2_train.loader import evaluation_batches
from stage2_train.official_metrics import official_metrics
from stage2_train.run_folder import is_run_checkpoint, read_run_checkpoint, trained_weights

log = logging.getLogger(__name__)

BATCH_SIZE = 4


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
    aqr = None if saved["aqr"] is None else from_json(AqrConfig, saved["aqr"])
    detector = build_detector(preset, store.cut, aqr)
    detector.load_state_dict(trained_weights(saved))
    return detector


@torch.inference_mode()
def detect(
    detector: CmtDetector, store: CachedFeatures, *, workers: int = 0
) -> dict[str, list[dict[str, Any]]]:
    """Return nuScenes result entries for every sample of a store."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    detector.to(device).eval()
    head = store.preset.head
    dataset = StoreDataset(store, store.tokens)
    results = {}
    for batch in tqdm(evaluation_batches(dataset, BATCH_SIZE, workers), unit="batch", disable=None):
        found = decode_boxes(detector(batch.to(device)), head)
        for token, one in zip(batch.tokens, found, strict=True):
            results[token] = to_nuscenes(one, store.frame(token))
    return results


def evaluate(
    store: CachedFeatures,
    detector: CmtDetector,
    out: Path,
    *,
    nuscenes_root: Path | None = None,
    workers: int = 0,
) -> dict[str, Any]:
    """Write the result JSON and, where the tables are, the official metrics.

    Returns:
        The metrics summary, empty without tables.
    """
    store.require_complete()
    out.mkdir(parents=True, exist_ok=True)
    log.info("detecting in %d samples of %s", len(store.tokens), store.path)
    results = out / "results_nusc.json"
    write_results(results, detect(detector, store, workers=workers), store.preset)
    if nuscenes_root is None:
        return {}
    version = store.identity["dataset"]["version"]
    return official_metrics(results, nuscenes_root, version, store.tokens, out)


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and hand over; no work happens here."""
    parser = argparse.ArgumentParser(
        prog="evaluate-stage2",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("store", type=store_path, help="complete feature store")
    parser.add_argument("run", type=Path, help="run folder, or checkpoint of train-stage2 or CMT")
    parser.add_argument("--out", type=Path, required=True, help="folder for results and metrics")
    parser.add_argument("--nuscenes", type=Path, help="nuScenes root with the tables, for metrics")
    parser.add_argument("--workers", type=int, default=0, help="loader processes")
    args = parser.parse_args(argv)

    def work() -> None:
        store = CachedFeatures(args.store)
        summary = evaluate(
            store,
            load_detector(args.run, store),
            args.out,
            nuscenes_root=args.nuscenes,
            workers=args.workers,
        )
        print(args.out / "results_nusc.json")
        if summary:
            short = {key: summary[key] for key in ("mean_ap", "nd_score", "samples", "split")}
            print(json.dumps(short))

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
