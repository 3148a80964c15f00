"""The options of `feature-cache`."""

import argparse
from pathlib import Path

from cache.format.codec import CODECS, DEFAULT_CODEC
from cache.storage.location import store_path
from shared.process.command import command_parser
from shared.process.cores import available_cores
from shared.process.number_options import real_number, whole_number

MICROSECOND = 1e-6


def feature_cache_parser(about: str | None) -> argparse.ArgumentParser:
    """Return the parser of `feature-cache`.

    Args:
        about: printed by --help.
    """
    parser = command_parser(about, "feature-cache")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("show", help="what a store is")
    command.add_argument("store", type=store_path)
    command.add_argument("--json", action="store_true", help="for programs")
    command.add_argument("--picture", type=Path, help="plot it instead, as PNG; needs matplotlib")
    command = commands.add_parser("verify", help="read every row again")
    command.add_argument("store", type=store_path)
    command.add_argument(
        "--workers",
        type=whole_number(1),
        default=available_cores(),
        help="threads (default: cores)",
    )
    command.add_argument(
        "--anew", action="store_true", help="do not resume an interrupted verification"
    )
    command.add_argument(
        "--repair",
        action="store_true",
        help="drop the ledger entries of damaged shards; extract-features then rebuilds them",
    )
    command.add_argument(
        "--nuscenes",
        type=Path,
        metavar="ROOT",
        help="compare the sensor files below this root with those of the rows, instead of the rows",
    )
    command = commands.add_parser("diff", help="why two stores, or a store and a preset, differ")
    command.add_argument("store", type=store_path)
    command.add_argument("references", nargs="+", metavar="reference", help="a store, or a preset")
    command = commands.add_parser("estimate", help="how large a store would be")
    command.add_argument("preset", help="a name, or path/to/file.py:function")
    command.add_argument("--samples", type=whole_number(1), required=True)
    command.add_argument("--variants", type=whole_number(1), default=1)
    command.add_argument("--codec", choices=tuple(CODECS), default=DEFAULT_CODEC)
    command.add_argument("--cut", default="backbone", help="as extract-features takes it")
    command.add_argument(
        "--seconds-per-sample", type=real_number(MICROSECOND), help="measured; adds hours"
    )
    command = commands.add_parser("digest", help="digest of a store's content")
    command.add_argument("store", type=store_path)
    command.add_argument("--recompute", action="store_true", help="read every byte again")
    return parser
