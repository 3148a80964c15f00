"""Inspect a feature store: what it is, whether it is intact, how it differs, how large it would be.

    feature-cache show STORE              # what it is, how complete, sizes, statistics
    feature-cache show STORE --json       # the same for programs
    feature-cache show STORE --picture FILE.png
    feature-cache verify STORE            # reads every row again; exit status 1 if one is damaged
    feature-cache verify STORE --repair   # lets the next extraction rebuild the damaged shards
    feature-cache verify STORE --nuscenes ROOT  # reads the sensor files again, not the rows
    feature-cache diff STORE REFERENCE... # stores or presets; exit status 1 if one differs
    feature-cache estimate r50_800x320 --samples 28130 --codec uint8-zstd-1
    feature-cache digest STORE            # one line, equal for equal content

Works on unfinished stores; only --repair changes anything in a store. A verification that was
interrupted resumes where it stopped.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from shared.process.command import ending_at_once, run_command

with ending_at_once():
    from cache.command_options import feature_cache_parser
    from cache.coordination.store import open_store
    from cache.delta.delta_inspection import (
        delta_as_text,
        delta_content,
        describe_delta,
        stores_inside,
    )
    from cache.delta.delta_metadata import is_delta, read_delta
    from cache.delta.print_delta_damage import print_delta_damage
    from cache.format.identity import explain_difference, frozen_document
    from cache.format.metadata import nothing_at
    from cache.inspection.content_digest import content_digest
    from cache.inspection.estimate import estimate
    from cache.inspection.picture import plot_store
    from cache.inspection.rebuild import explain_rebuild
    from cache.inspection.sources_digest import explain_sources
    from cache.inspection.summary import describe, summary_as_text
    from cache.storage.location import parse_store_path
    from cache.storage.protocol import StorePath
    from cache.verification.print_outcome import print_store_damage
    from shared.config.cut import parse_cut
    from shared.config.preset import Preset
    from shared.config.preset_catalogue import load_preset
    from shared.digests import BLAKE3
    from shared.errors import CacheError, ConfigError

GIGABYTE = 1e9
SECONDS_PER_HOUR = 3600


def print_summary(path: StorePath, *, as_json: bool, picture: Path | None) -> int:
    """Print or plot what a store is."""
    if is_delta(path):
        if picture is not None:
            inside = " or ".join(f"{path}/{part}" for part in stores_inside(path, with_files=True))
            raise CacheError(f"{path} is a delta store; plot what is inside: {inside or 'nothing'}")
        print(json.dumps(describe_delta(path), indent=2) if as_json else delta_as_text(path))
        return 0
    store = open_store(path)
    if picture is not None:
        plot_store(store, picture)
        print(f"{picture}: completeness, and value statistics shard by shard")
        return 0
    description = describe(store)
    print(json.dumps(description, indent=2) if as_json else summary_as_text(description))
    return 0


def print_damage(
    path: StorePath, *, workers: int, anew: bool, repair: bool, root: Path | None
) -> int:
    """Verify a store, or its sensor files in `root`; return 1 and print what is not as it was."""
    check = partial(print_store_damage, workers=workers, anew=anew, repair=repair, root=root)
    if is_delta(path):
        return print_delta_damage(path, check, with_files=root is not None)
    return check(open_store(path))


def print_difference(path: StorePath, references: Sequence[str]) -> int:
    """Print where a store differs from stores or presets, and which arrays that affects."""
    if is_delta(path):
        return print_delta_difference(path, references)
    store = open_store(path)
    arrays = tuple(spec.name for spec in store.arrays)
    has_difference = False
    for reference in references:
        mine, sources, notes = store.metadata.identity, list[str](), list[str]()
        compared_of = "what determines the features"
        if _names_store(reference):
            compared = open_store(parse_store_path(reference))
            theirs = compared.metadata.identity
            sources, notes = explain_sources(store, compared)
        else:
            theirs = {"preset": frozen_document(_named_preset(reference), parse_cut(mine["cut"]))}
            mine, compared_of = {"preset": mine["preset"]}, "the preset, which alone was compared"
        lines = explain_rebuild(mine, theirs, arrays, names=(f"in {path}", f"in {reference}"))
        lines += sources
        if len(references) > 1:
            print(f"{path} and {reference}:")
        print("\n".join([*(lines or [f"no difference in {compared_of}"]), *notes]))
        has_difference |= bool(lines)
    return 1 if has_difference else 0


def print_delta_difference(path: StorePath, references: Sequence[str]) -> int:
    """Print where a delta differs from deltas, or from a store that should be its base."""
    mine, has_difference = read_delta(path), False
    for reference in references:
        place = parse_store_path(reference)
        if is_delta(place):
            first, second = mine.identity, read_delta(place).identity
        else:
            first, second = dict(mine.base_identity), dict(open_store(place).metadata.identity)
        lines = explain_difference(first, second, names=(f"in {path}", f"in {reference}"))
        print("\n".join(lines or ["no difference in what determines the features"]))
        has_difference |= bool(lines)
    return 1 if has_difference else 0


def _named_preset(reference: str) -> Preset:
    """Return the preset of a reference that is no store.

    Raises:
        ConfigError: if it is no preset either.
    """
    try:
        return load_preset(reference)
    except ConfigError as error:
        if ".py" in reference:
            raise
        raise ConfigError(f"{nothing_at(parse_store_path(reference))} And: {error}") from error


def _names_store(reference: str) -> bool:
    """Return whether a reference is a store and not a preset."""
    return "://" in reference or (Path(reference).exists() and not reference.endswith(".py"))


def print_estimate(
    preset: str,
    *,
    samples: int,
    variants: int,
    codec: str,
    cut: str,
    seconds_per_sample: float | None,
) -> int:
    """Print how large a store would be, and how long it would take at a measured speed."""
    size = estimate(
        load_preset(preset), samples=samples, variants=variants, codec=codec, cut=parse_cut(cut)
    )
    print(
        f"{samples} samples x {variants} variants of {preset}, cut {cut}, as {codec}: "
        f"{size.row / 1e6:.2f} MB a row, "
        f"{size.uncompressed / GIGABYTE:.2f} GB uncompressed, about "
        f"{size.smallest / GIGABYTE:.2f} to {size.largest / GIGABYTE:.2f} GB on disk"
    )
    if seconds_per_sample is not None:
        hours = samples * variants * seconds_per_sample / SECONDS_PER_HOUR
        print(f"{hours:.2f} h for one worker at {seconds_per_sample:g} s a row; n workers share it")
    return 0


def print_digest(path: StorePath, *, recompute: bool) -> int:
    """Print the content digest of a store."""
    store = open_store(path)
    print(content_digest(store, recompute=recompute))
    if store.metadata.digest_algorithm != BLAKE3 and not recompute:
        print(
            f"{path} has SHA-256 digests, as stores had before {BLAKE3.upper()}: this line equals "
            "that of such stores only. --recompute prints what a store made now would have.",
            file=sys.stderr,
        )
    return 0


def _run(args: argparse.Namespace) -> int:
    match args.command:
        case "show":
            return print_summary(args.store, as_json=args.json, picture=args.picture)
        case "verify":
            return print_damage(
                args.store,
                workers=args.workers,
                anew=args.anew,
                repair=args.repair,
                root=args.nuscenes,
            )
        case "diff":
            return print_difference(args.store, args.references)
        case "estimate":
            return print_estimate(
                args.preset,
                samples=args.samples,
                variants=args.variants,
                codec=args.codec,
                cut=args.cut,
                seconds_per_sample=args.seconds_per_sample,
            )
        case _:
            if is_delta(args.store):
                print(delta_content(args.store).digest(recompute=args.recompute))
                return 0
            return print_digest(args.store, recompute=args.recompute)


def main(argv: list[str] | None = None) -> int:
    """Run one command; return its exit status."""
    parser = feature_cache_parser(__doc__)
    args = parser.parse_args(argv)
    if args.command == "verify" and args.repair and args.nuscenes is not None:
        parser.error("--repair rebuilds rows, it cannot mend sensor files: omit it or --nuscenes")
    return run_command(lambda: _run(args))


if __name__ == "__main__":
    sys.exit(main())
