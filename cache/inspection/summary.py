"""A summary of a store, finished or not, that fits on a screen."""

import shlex
from dataclasses import asdict
from typing import Any

from cache.coordination.ledger import EntryError, LedgerEntry
from cache.coordination.null_store import null_problem
from cache.coordination.store import Store
from cache.format.identity import PART
from cache.format.statistics import merge_by_array
from cache.inspection.parity_record import parity_note
from cache.inspection.sources_digest import SampleSources
from cache.verification.check_sources import UNKNOWN_SOURCES
from shared.digests import json_digest
from shared.process.whole_file import PARTIAL_SUFFIX

MEGABYTE = 1e6
OF_A_DELTA = "part of a delta store, which `check-parity` compares as a whole"


def describe(store: Store) -> dict[str, Any]:
    """Return everything `feature-cache show` prints, as plain JSON values."""
    metadata, layout = store.metadata, store.layout
    complete = sorted(shard for shard in store.ledger.complete() if shard in store.all_shards)
    entries, damaged = _readable_entries(store, complete)
    rows, readable = store.rows_in(frozenset(complete)), sum(len(entry.tokens) for entry in entries)
    sizes, sources = store.path.sizes(), SampleSources.of(entries)
    partial = sum(size for name, size in sizes.items() if name.endswith(PARTIAL_SUFFIX))
    return {
        "store": str(store.path),
        "preset": metadata.preset_document["name"],
        "cut": metadata.identity["cut"],
        "weights": metadata.provenance.weights,
        "samples": layout.samples,
        "variants": layout.variants,
        "rows": {"complete": rows, "total": layout.rows},
        "shards": {"complete": len(complete), "total": layout.shard_count, "rows": layout.slots},
        "bytes": {
            "on_disk": sum(sizes.values()),
            "left_by_killed_writers": partial,
            "per_row": sum(entry.bytes_on_disk for entry in entries) // readable
            if readable
            else None,
            "per_row_uncompressed": sum(spec.row_bytes for spec in store.arrays),
        },
        "codec": metadata.codec,
        "arrays": {
            spec.name: {"dims": list(spec.dims), "shape": list(spec.shape), "dtype": spec.dtype}
            for spec in store.arrays
        },
        "statistics": {
            name: asdict(statistics)
            for name, statistics in merge_by_array(entry.statistics for entry in entries).items()
        },
        "identity": metadata.identity,
        "identity_digest": json_digest(metadata.identity),
        "sources": {
            "digest": sources.digest if readable == layout.rows else None,
            "unknown_rows": sources.unknown,
        },
        "damaged_entries": damaged,
        "null_problem": null_problem(store),
        "parity": OF_A_DELTA if PART in metadata.identity else parity_note(store),
        "provenance": {**asdict(metadata.provenance), "created_at": metadata.created_at},
        "resume_command": store.command,
        "write_seconds": round(sum(entry.write_seconds for entry in entries), 3),
        "schema_version": metadata.schema_version,
    }


def summary_as_text(description: dict[str, Any]) -> str:
    """Format `describe` for people."""
    rows, shards, size = (description[key] for key in ("rows", "shards", "bytes"))
    per_row = "not known yet"
    if size["per_row"] is not None:
        ratio = size["per_row_uncompressed"] / size["per_row"]
        per_row = (
            f"{size['per_row'] / MEGABYTE:.2f} MB, {ratio:.2f} times smaller than uncompressed"
        )
    is_finished = rows["complete"] == rows["total"]
    provenance = description["provenance"]
    lines = [
        f"store       {description['store']}",
        f"preset      {description['preset']}, cut {description['cut']}",
        f"weights     {description['weights']}",
        f"rows        {rows['complete']} of {rows['total']} complete ({description['samples']} "
        f"samples x {description['variants']} variants)",
        f"shards      {shards['complete']} of {shards['total']}, {shards['rows']} rows each",
        f"on disk     {size['on_disk'] / MEGABYTE:.1f} MB; a row {per_row}",
        f"codec       {description['codec']}",
        f"identity    {description['identity_digest']}",
        f"sources     {_sources(description)}",
        f"parity      {description['parity']}",
        f"created     {provenance['created_at']} by: {provenance['command']}",
        f"software    {', '.join(f'{k} {v}' for k, v in provenance['software'].items())}",
    ]
    if description["damaged_entries"]:
        lines.append(
            f"damaged     {len(description['damaged_entries'])} of {shards['complete']} ledger "
            f"entries, first: {description['damaged_entries'][0]}. `feature-cache verify "
            f"{shlex.quote(description['store'])} --repair` moves such entries aside; then run: "
            f"{description['resume_command']}"
        )
    if description["null_problem"]:
        lines.append(f"damaged     null features: {description['null_problem']}")
    if size["left_by_killed_writers"]:
        lines.append(
            f"unfinished  {size['left_by_killed_writers']} bytes in *{PARTIAL_SUFFIX} files"
        )
    if not is_finished:
        lines.append(f"unfinished  finish it with: {description['resume_command']}")
    lines += ["", f"{'array':26} {'dtype':8} row"]
    for name, spec in description["arrays"].items():
        dims = " ".join(spec["dims"])
        lines.append(f"{name:26} {spec['dtype']:8} ({dims}) = {tuple(spec['shape'])}")
    if description["statistics"]:
        columns = ("min", "max", "mean", "std", "absmax")
        lines += ["", f"{'values':26}" + "".join(f"{column:>12}" for column in columns)]
        for name, values in description["statistics"].items():
            lines.append(f"{name:26}" + "".join(f"{values[column]:12.5g}" for column in columns))
    return "\n".join(lines)


def _readable_entries(store: Store, shards: list[int]) -> tuple[list[LedgerEntry], list[str]]:
    """Return the ledger entries of shards, and what is wrong with those that cannot be used."""

    def read(shard: int) -> LedgerEntry | str:
        try:
            return store.entry(shard)
        except EntryError as error:
            return str(error)

    results = list(store.path.for_each(read, shards))
    entries = [result for result in results if isinstance(result, LedgerEntry)]
    return entries, [result for result in results if isinstance(result, str)]


def _sources(description: dict[str, Any]) -> str:
    """Say what is known of the sensor files that the rows were made from."""
    rows, sources = description["rows"], description["sources"]
    if description["damaged_entries"]:
        return "not known: ledger entries are damaged"
    if rows["complete"] and not description["statistics"]:
        return "none: rows without maps are made from tables"
    if sources["unknown_rows"]:
        return f"{sources['unknown_rows']} of {rows['complete']} rows {UNKNOWN_SOURCES}"
    return sources["digest"] or "the digest of all sensor files is known once the store is complete"
