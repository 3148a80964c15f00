"""What `feature-cache` says of a delta store."""

from dataclasses import asdict
from typing import Any

from cache.coordination.store import Store
from cache.delta.delta_content import DeltaContent
from cache.delta.delta_metadata import finish_command, read_delta
from cache.delta.delta_plan import ABSENT, ROW, STUCK
from cache.delta.delta_rows import Part, needed_parts, open_part, open_parts
from cache.storage.protocol import StorePath
from shared.digests import json_digest

MEGABYTE = 1e6
LETTER_NAMES = {ROW: "rows of the delta", ABSENT: "absent", STUCK: "stuck"}


def delta_content(path: StorePath) -> DeltaContent:
    """Return what the delta at `path` holds.

    Raises:
        CacheError: if a store that it needs is not there.
    """
    metadata = read_delta(path)
    return DeltaContent(path, metadata, open_parts(path, metadata))


def stores_inside(path: StorePath, *, with_files: bool = False) -> dict[Part, Store]:
    """Open the stores inside a delta that are there.

    Args:
        path: the delta store.
        with_files: only those whose rows are made from sensor files.

    Raises:
        InsideError: if one is damaged.
    """
    metadata = read_delta(path)
    parts = needed_parts(metadata.plan, with_files=with_files)
    opened = {part: open_part(path, metadata, part) for part in parts}
    return {part: store for part, store in opened.items() if store is not None}


def describe_delta(path: StorePath) -> dict[str, Any]:
    """Return everything `feature-cache show` prints of a delta, as plain JSON values."""
    metadata = read_delta(path)
    stores = stores_inside(path)
    complete = {name: store.rows_in(store.ledger.complete()) for name, store in stores.items()}
    return {
        "delta": str(path),
        "condition": {**asdict(metadata.condition), **metadata.condition_identity},
        "base": {"path": metadata.base_path, **asdict(metadata.base)},
        "preset": metadata.base_identity["preset"],
        "samples": metadata.plan.samples,
        "variants": metadata.base_identity["variants"],
        "sensors": metadata.plan.counts(),
        "has_geometry": metadata.plan.has_geometry,
        "parts": {
            name: {
                "rows": {"complete": complete[name], "total": store.layout.rows},
                "bytes": sum(store.path.sizes().values()),
            }
            for name, store in stores.items()
        },
        "is_complete": all(
            part in stores and complete[part] == stores[part].layout.rows
            for part in needed_parts(metadata.plan)
        ),
        "bytes": sum(path.sizes().values()),
        "parity": DeltaContent(path, metadata, stores).parity_note(),
        "identity": metadata.identity,
        "identity_digest": json_digest(metadata.identity),
        "provenance": {**asdict(metadata.provenance), "created_at": metadata.created_at},
    }


def delta_as_text(path: StorePath) -> str:
    """Format `describe_delta` for people."""
    metadata, described = read_delta(path), describe_delta(path)
    condition = metadata.condition
    severity = "" if condition.severity is None else f", severity {condition.severity}"
    lines = [
        f"delta       {path}: what a condition changes of its base",
        f"condition   {condition.name} (family {condition.family}{severity})",
        f"source      {condition.source}",
        f"base        {metadata.base_path}, content {metadata.base.content_digest[:12]}...",
        f"samples     {described['samples']} x {described['variants']} variants",
        f"on disk     {described['bytes'] / MEGABYTE:.1f} MB",
        f"identity    {described['identity_digest']}",
        f"parity      {described['parity']}",
        f"created     {metadata.created_at} by: {metadata.provenance.command}",
    ]
    for sensor, counts in described["sensors"].items():
        words = [f"{n} {LETTER_NAMES[letter]}" for letter, n in counts.items() if n]
        lines.append(f"{sensor:22} of {described['samples']} samples: {', '.join(words)}")
    if metadata.plan.has_geometry:
        lines.append("img_from_lidar         changed calibration, in every sample")
    for name, part in described["parts"].items():
        rows = part["rows"]
        lines.append(
            f"{name + '/':22} {rows['complete']} of {rows['total']} rows, "
            f"{part['bytes'] / MEGABYTE:.1f} MB; `feature-cache show {path}/{name}` has the rest"
        )
    if not described["is_complete"]:
        lines.append(f"unfinished  finish it with: {finish_command(path, metadata)}")
    return "\n".join(lines)
