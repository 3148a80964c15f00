"""What one more judged head costs under all conditions: from delta stores, and with live backbones.

    python -m benchmarks.speed.judged_head val.zarr runs/a --nuscenes ROOT --conditions val.*.zarr

Under every condition, some samples are read from the store and its delta, and computed live; both
are detected in and judged by nuscenes-devkit. Writes benchmarks/results/judged_head_PRESET.json and
prints a table. --checkpoint is the one that the store was extracted with; without it, seeded.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from benchmarks.markdown import table
from cache.delta.open_features import open_delta
from cache.reader import CachedFeatures
from shared.checkpoint.shipped_checkpoint import checkpoint_path
from shared.data.batch import Batch, collate
from shared.data.feature_store import SampleReader
from shared.data.features import FrameFeatures
from shared.model.detector import CmtDetector
from shared.process.command import command_parser
from stage1_extract.backbones.live import LiveFeatures
from stage1_extract.backbones.weights import frozen_backbones
from stage1_extract.nuscenes.nuscenes_tables import read_tables
from stage1_extract.preprocessing.conditioned_input import ConditionedInput
from stage1_extract.preprocessing.raw_frames import RawFrames
from stage2_train.data.dataset import StoreDataset
from stage2_train.data.loader import evaluation_batches
from stage2_train.evaluation.detections import detect, write_results
from stage2_train.evaluation.official_metrics import judge
from stage2_train.evaluation.official_tables import coverage, open_tables
from stage2_train.run.trained_detector import load_detector

RESULTS = Path("benchmarks/results")
Seconds = dict[str, float]


class HeadJudge:
    """Detects in batches of some samples and judges the results, timing both.

    Args:
        detector: to judge.
        store: the clean samples.
        tokens: of the samples.
        root: with the tables.
    """

    def __init__(
        self, detector: CmtDetector, store: CachedFeatures, tokens: Sequence[str], root: Path
    ) -> None:
        self.detector, self.store, self.tokens = detector, store, tokens
        self.tables = open_tables(root, store.identity["dataset"]["version"])
        self.covered = coverage(self.tables, tokens)

    def seconds(self, batches: Callable[[], Iterator[Batch]]) -> Seconds:
        """Return the seconds per sample of features, head and judging."""
        features = 0.0

        def timed() -> Iterator[Batch]:
            nonlocal features
            stream = batches()
            while True:
                started = time.perf_counter()
                batch = next(stream, None)
                features += time.perf_counter() - started
                if batch is None:
                    return
                yield batch

        started = time.perf_counter()
        results = list(detect(self.detector, timed(), self.store))
        detected = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "results.json"
            write_results(file, results, self.store.preset)
            judge(file, self.tables, self.covered, self.tokens, Path(folder))
        judged = time.perf_counter() - detected
        count = len(self.tokens)
        return {
            "features": features / count,
            "head": (detected - started - features) / count,
            "judging": judged / count,
        }


def cached_batches(reader: SampleReader, tokens: Sequence[str]) -> Iterator[Batch]:
    """Return batches of one sample, as `evaluate-stage2` reads them."""
    return iter(evaluation_batches(StoreDataset(reader, tokens), 1, workers=0))


def live_batches(live: LiveFeatures, tokens: Sequence[str]) -> Iterator[Batch]:
    """Return the same, computed."""
    for token in tokens:
        features: list[FrameFeatures] = live.read([token])
        yield collate(features)


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, measure, write and print."""
    parser = command_parser(__doc__, "python -m benchmarks.speed.judged_head")
    parser.add_argument("store", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--nuscenes", type=Path, required=True)
    parser.add_argument("--split", required=True, help="of the store, e.g. mini_val")
    parser.add_argument("--conditions", type=Path, nargs="+", required=True)
    parser.add_argument("--checkpoint", type=checkpoint_path)
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--existing-only", action="store_true", help="for a partial copy")
    args = parser.parse_args(argv)
    document = measured(args)
    file = RESULTS / f"judged_head_{document['preset']}.json"
    file.write_text(json.dumps(document, indent=1) + "\n")
    print(text_of(document))
    return 0


def measured(args: argparse.Namespace) -> dict[str, Any]:
    """Measure every condition both ways."""
    store = CachedFeatures(args.store)
    tokens = store.tokens[: args.samples]
    judging = HeadJudge(load_detector(args.run, store), store, tokens, args.nuscenes)
    version = store.identity["dataset"]["version"]
    records = read_tables(args.nuscenes, version, args.split, existing_only=args.existing_only)
    frozen, _ = frozen_backbones(store.preset, args.checkpoint, store.cut)
    conditions = {}
    for path in args.conditions:
        delta = open_delta(path, store)
        name = delta.condition.name
        raw = RawFrames(records, store.preset, None, ConditionedInput(name, records))
        live = LiveFeatures(records, frozen, raw=raw)
        conditions[name] = {
            "stored": judging.seconds(lambda delta=delta: cached_batches(delta, tokens)),
            "live": judging.seconds(lambda live=live: live_batches(live, tokens)),
        }
    return {
        "preset": store.preset.name,
        "samples": len(tokens),
        "device": str(judging.detector.device),
        "threads": torch.get_num_threads(),
        "seconds per sample": conditions,
    }


def text_of(document: dict[str, Any]) -> str:
    """Return a table: a row per condition, their mean, and the ratios of the goal."""
    conditions = document["seconds per sample"]
    parts = ("features", "head", "judging")
    means = {
        way: {part: fmean(of[way][part] for of in conditions.values()) for part in parts}
        for way in ("stored", "live")
    }
    rows = [
        (
            name,
            *(f"{of[way][part]:.3f}" for way in ("stored", "live") for part in parts),
            *_ratios(of),
        )
        for name, of in {**conditions, "mean": means}.items()
    ]
    heads = [f"{way}: {part}" for way in ("stored", "live") for part in parts]
    return table(
        ("s per sample", *heads, "ratio of features", "with the head", "with judging"), rows
    )


def _ratios(of: dict[str, Seconds]) -> tuple[str, ...]:
    """Return stored over live: of the features, then with what is the same in both."""
    ratios, sums = [], {"stored": 0.0, "live": 0.0}
    for part in ("features", "head", "judging"):
        for way in sums:
            sums[way] += of[way][part]
        ratios.append(f"{sums['stored'] / sums['live']:.3f}")
    return tuple(ratios)


if __name__ == "__main__":
    sys.exit(main())
