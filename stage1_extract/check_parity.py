"""Prove that a store gives the same as the live backbones, from features to gradients and boxes.

    check-parity /data/r50.zarr --nuscenes /data/nuscenes --checkpoint cmt.pth
    check-parity /data/r50.zarr --nuscenes /data/nuscenes --samples 8 --json parity.json
    check-parity /data/r50.zarr --nuscenes /data/nuscenes --head runs/a/checkpoint.pt
    check-parity val.beams-4-even.zarr --base val.zarr --nuscenes /data/nuscenes

Recomputes rows from the raw files, drawn at random: by default as many as find a fault in 1% of the
rows with 95% probability, at most about 300. A few of them also go through the detector. Says how
long it takes; Ctrl-C stops it. Prints a table; exits with 1 if anything is outside its tolerance.
The result is kept in the store, and `feature-cache show` and training quote it. Necks and head come
from --head (a checkpoint of train-stage2 or of CMT), else from --checkpoint; without either they
are seeded.
"""

import argparse
import json
import logging
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from shared.process.command import command_parser, ending_at_once, run_command

with ending_at_once():
    from cache.delta.delta_metadata import is_delta
    from cache.inspection.parity_record import ParityRecord
    from cache.storage.location import store_path
    from shared.checkpoint.shipped_checkpoint import checkpoint_path, require_existing
    from shared.config.config_json import to_json
    from shared.errors import ConfigError, ParityError
    from shared.process.number_options import whole_number
    from stage1_extract.extraction.installed_versions import installed_versions
    from stage1_extract.live_pairs import delta_pair, store_pair
    from stage1_extract.nuscenes.dataset_options import OF_STORE, add_dataset_options
    from stage1_extract.parity.compare_sources import NOISE_SAMPLES, Extent, compare_sources
    from stage1_extract.parity.compared_pair import ComparedPair
    from stage1_extract.parity.parity_report import ParityRow, rows_as_text, worst_margins
    from stage1_extract.parity.row_sampling import (
        DEFAULT_SHARE,
        draw_rows,
        rows_to_find,
        sampling_report,
        share_found,
    )

log = logging.getLogger(__name__)


def parity_options() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = command_parser(__doc__, "check-parity")
    parser.add_argument("store", type=store_path, help="complete feature store")
    add_dataset_options(parser, **OF_STORE)
    parser.add_argument(
        "--base", type=store_path, help="of a delta store (default where it was extracted)"
    )
    parser.add_argument(
        "--condition", help="of a delta store, if its file is elsewhere now: file.py:function"
    )
    parser.add_argument(
        "--checkpoint", type=checkpoint_path, help="checkpoint that the store was made with"
    )
    parser.add_argument(
        "--head", type=checkpoint_path, help="checkpoint with the necks and head to compare"
    )
    parser.add_argument(
        "--samples",
        type=whole_number(1),
        help="rows to recompute (default: enough to find a fault in 1%% of the rows)",
    )
    parser.add_argument(
        "--detector-samples",
        type=whole_number(0),
        default=NOISE_SAMPLES,
        help=f"those of them to run through the detector (default {NOISE_SAMPLES})",
    )
    parser.add_argument(
        "--seed", type=whole_number(0), default=0, help="of the drawn rows (default 0)"
    )
    parser.add_argument("--json", type=Path, help="also write the comparison to this file")
    return parser


def check(args: argparse.Namespace) -> None:
    """Compare a store with the live backbones as the command line says.

    Raises:
        CheckpointError: if a checkpoint does not exist.
        ConfigError: if --json names a file that cannot be written.
        ParityError: if anything is outside its tolerance.
    """
    for checkpoint in (args.checkpoint, args.head):
        require_existing(checkpoint)
    require_writable(args.json)
    pair = delta_pair(args) if is_delta(args.store) else store_pair(args)
    total = pair.rows
    rows = min(total, args.samples or rows_to_find(DEFAULT_SHARE, total))
    extent = Extent(
        rows=rows,
        detector_samples=args.detector_samples,
        variants=pair.variants,
        seed=args.seed,
        batch_sizes=pair.batches.sizes,
        exact_at=pair.batches.exact_at,
        slots=pair.slots,
    )
    log.info("comparing %d of %d rows on %s", rows, total, pair.device)
    compared = compare_sources(pair.live, pair.cached, extent, args.head or args.checkpoint)
    record = _record(pair, extent, compared, args.head or args.checkpoint)
    sampling = sampling_report(rows, total, args.seed)
    pair.keep(record)
    print(rows_as_text(compared))
    print(f"{sampling}\nbit-equality was asked {pair.batches.reason}")
    if args.json is not None:
        document = {
            "store": pair.name,
            "preset": pair.cached.preset.name,
            "samples": rows,
            "sampling": sampling,
            "bit_equality": pair.batches.reason,
            "passed": not record.failed,
            "record": to_json(record),
            "rows": [row.document() for row in compared],
        }
        args.json.write_text(json.dumps(document, indent=2))
    if record.failed:
        raise ParityError(
            f"{len(record.failed)} of {len(compared)} comparisons are outside their tolerance, "
            f"first {record.failed[0]}: this store does not match the live backbones; do not train "
            "from it"
        )
    print(f"parity holds: {len(compared)} comparisons within tolerance")


def require_writable(file: Path | None) -> None:
    """Make sure that --json can be written, before a check is computed for it.

    Raises:
        ConfigError: if it cannot.
    """
    if file is None:
        return
    folder = file.absolute().parent
    if not folder.is_dir():
        raise ConfigError(f"--json {file}: there is no folder {folder}; create it first")
    if file.is_dir() or not os.access(file if file.exists() else folder, os.W_OK):
        raise ConfigError(
            f"--json {file}: a folder, or not writable by this user; name a file that is"
        )


def _record(
    pair: ComparedPair, extent: Extent, compared: list[ParityRow], head: Path | None
) -> ParityRecord:
    """Return what is to be kept of a comparison."""
    drawn = draw_rows(pair.samples, pair.variants, extent.rows, extent.seed)
    return ParityRecord(
        content=pair.content,
        failed=tuple(
            f"{row.quantity} at batch size {row.batch_size}" for row in compared if not row.passed
        ),
        rows=len(drawn),
        total_rows=pair.rows,
        variants=tuple(sorted({variant for variant, _ in drawn})),
        detector_samples=min(extent.detector_samples, len(drawn)),
        seed=extent.seed,
        found_share=share_found(len(drawn), pair.rows),
        head="seeded" if head is None else head.name,
        device=pair.device,
        software=installed_versions(),
        margins=worst_margins(compared),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and start the work."""
    args = parity_options().parse_args(argv)
    return run_command(lambda: check(args))


if __name__ == "__main__":
    sys.exit(main())
