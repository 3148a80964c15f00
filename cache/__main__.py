"""Look at a feature store: what it is, whether it is whole, how it differs, how large one would be.

    feature-cache show STORE              # what it is, how complete, sizes, statistics
    feature-cache show STORE --json       # the same for programs
    feature-cache verify STORE            # reads every row again; exit status 1 if one is damaged
    feature-cache diff STORE OTHER        # OTHER is a store or a preset; status 1 if they differ
    feature-cache estimate r50_800x320 --samples 28130
    feature-cache digest STORE            # one line, equal for equal content

Works on unfinished stores; changes nothing on disk.
"""

import argparse
import json
import sys
from pathlib import Path

from cache.digest import content_digest
from cache.estimate import estimate
from cache.identity import explain_difference, frozen_document
from cache.show import as_text, describe
from cache.store import open_store
from cache.verify import verify
from shared.errors import FrozenCmtError
from shared.presets import load_preset

GIGABYTE = 1e9


def show(path: Path, *, as_json: bool) -> int:
    """Print what a store is."""
    description = describe(open_store(path))
    print(json.dumps(description, indent=2) if as_json else as_text(description))
    return 0


def verify_store(path: Path) -> int:
    """Print every damage; the status says whether there was one."""
    store = open_store(path)
    damages = 0
    for damage in verify(store, is_quiet=not sys.stderr.isatty()):
        print(damage)
        damages += 1
    rows = store.rows_in(store.ledger.complete())
    of_all = f"{rows} of {store.layout.rows} rows are complete and were read again"
    print(f"{of_all}: {f'{damages} damaged' if damages else 'all as written'}")
    return 1 if damages else 0


def diff(path: Path, other: str) -> int:
    """Print the fields in which a store differs from another store or from a preset."""
    mine = open_store(path).metadata.identity
    if Path(other).exists() and not other.endswith(".py"):
        theirs = open_store(Path(other)).metadata.identity
    else:
        mine = {"preset": mine["preset"]}
        theirs = {"preset": frozen_document(load_preset(other))}
    differences = explain_difference(mine, theirs, names=(f"in {path}", f"in {other}"))
    print("\n".join(differences) or "no difference in what determines the features")
    return 1 if differences else 0


def print_estimate(preset: str, *, samples: int, views: int) -> int:
    """Print how large a store would be."""
    size = estimate(load_preset(preset), samples=samples, views=views)
    print(
        f"{samples} samples x {views} views of {preset}: {size.row / 1e6:.2f} MB a row, "
        f"{size.uncompressed / GIGABYTE:.2f} GB uncompressed, about "
        f"{size.smallest / GIGABYTE:.2f} to {size.largest / GIGABYTE:.2f} GB on disk"
    )
    return 0


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="feature-cache",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("show", help="what a store is")
    one.add_argument("store", type=Path)
    one.add_argument("--json", action="store_true", help="for programs")
    one = commands.add_parser("verify", help="read every row again")
    one.add_argument("store", type=Path)
    one = commands.add_parser("diff", help="why two stores, or a store and a preset, differ")
    one.add_argument("store", type=Path)
    one.add_argument("other", help="a store, or a preset")
    one = commands.add_parser("estimate", help="how large a store would be")
    one.add_argument("preset", help="a name, or path/to/file.py:function")
    one.add_argument("--samples", type=_positive, required=True)
    one.add_argument("--views", type=_positive, default=1)
    one = commands.add_parser("digest", help="digest of a store's content")
    one.add_argument("store", type=Path)
    one.add_argument("--recompute", action="store_true", help="read every byte again")
    return parser


def _run(args: argparse.Namespace) -> int:
    match args.command:
        case "show":
            return show(args.store, as_json=args.json)
        case "verify":
            return verify_store(args.store)
        case "diff":
            return diff(args.store, args.other)
        case "estimate":
            return print_estimate(args.preset, samples=args.samples, views=args.views)
        case _:
            print(content_digest(open_store(args.store), recompute=args.recompute))
            return 0


def main(argv: list[str] | None = None) -> int:
    """Run one command; return its exit status."""
    args = _parser().parse_args(argv)
    try:
        return _run(args)
    except FrozenCmtError as error:
        print(f"feature-cache: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
