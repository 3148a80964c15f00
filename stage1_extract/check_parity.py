"""Prove that a store gives the same as the live backbones, from features to gradients and boxes.

    check-parity /data/r50.zarr --nuscenes /data/nuscenes --checkpoint cmt.pth
    check-parity /data/r50.zarr --nuscenes /data/nuscenes --samples 8 --json parity.json
    check-parity /data/r50.zarr --nuscenes /data/nuscenes --head runs/a/checkpoint.pt

Recomputes a few samples from the raw files, at batch size 1 and 2. Prints a table; exits with 1 if
anything is outside its tolerance. Necks and head come from --head (a checkpoint of train-stage2 or
of CMT), else from --checkpoint; without either they are seeded.
"""

import argparse
import json
import sys
from pathlib import Path

from cache.format.identity import check_identity
from cache.reader import CachedFeatures
from cache.storage.location import store_path
from shared.errors import ParityError
from shared.process.command import run_command
from stage1_extract.backbones.live import LiveFeatures
from stage1_extract.backbones.weights import frozen_backbones
from stage1_extract.extraction.extraction_identity import (
    draws_of,
    recorded_batch_size,
    store_identity,
)
from stage1_extract.nuscenes.dataset_options import add_dataset_options, chosen_dataset
from stage1_extract.parity.compare_sources import compare_sources
from stage1_extract.parity.parity_legs import ParityRow


def table(rows: list[ParityRow]) -> str:
    """Return the comparison as aligned text."""
    lines = [f"{'quantity':<34} {'batch':>5} {'difference':>12} {'allowed':>9}  unit"]
    for row in rows:
        mark = "" if row.passed else "  <-- outside"
        lines.append(
            f"{row.quantity:<34} {row.batch_size:>5} {row.difference:>12.3g} "
            f"{row.allowed:>9.3g}  {row.unit}{mark}"
        )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and start the work."""
    parser = argparse.ArgumentParser(
        prog="check-parity",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("store", type=store_path, help="complete feature store")
    add_dataset_options(parser)
    parser.add_argument("--checkpoint", type=Path, help="checkpoint that the store was made with")
    parser.add_argument("--head", type=Path, help="checkpoint with the necks and head to compare")
    parser.add_argument("--samples", type=int, default=4, help="samples to recompute (default 4)")
    parser.add_argument("--json", type=Path, help="also write the comparison to this file")
    args = parser.parse_args(argv)

    def work() -> None:
        store = CachedFeatures(args.store)
        store.require_complete()
        dataset = chosen_dataset(args, store.provenance.dataset)
        records = dataset.read()
        frozen, _ = frozen_backbones(store.preset, args.checkpoint, store.cut)
        identity = store_identity(
            frozen,
            records,
            dataset.version,
            value_format=store.identity["value_format"],
            variants=store.variants,
            batch_size=recorded_batch_size(store.identity),
        )
        check_identity(store.path, identity)
        live = LiveFeatures(records, frozen, draws_of(store.preset, store.variants))
        rows = compare_sources(
            live,
            store,
            samples=args.samples,
            variants=store.variants,
            checkpoint=args.head or args.checkpoint,
        )
        print(table(rows))
        failed = [row for row in rows if not row.passed]
        if args.json is not None:
            document = {
                "store": store.path.name,
                "preset": store.preset.name,
                "samples": min(args.samples, len(store.tokens)),
                "passed": not failed,
                "rows": [row.document() for row in rows],
            }
            args.json.write_text(json.dumps(document, indent=2))
        if failed:
            raise ParityError(
                f"{len(failed)} of {len(rows)} comparisons are outside their tolerance, first "
                f"{failed[0].quantity} at batch size {failed[0].batch_size}: this store does not "
                "match the live backbones; do not train from it"
            )
        print(f"parity holds: {len(rows)} comparisons within tolerance")

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
