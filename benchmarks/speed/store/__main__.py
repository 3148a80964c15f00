"""Measure how fast the store is read, written and opened, against its codec and alternatives.

    python -m benchmarks.speed.store                        # synthetic rows of r50_800x320
    python -m benchmarks.speed.store --store train.zarr     # the first rows of your store

Writes benchmarks/results/store.json and prints its tables. Speeds count uncompressed feature maps,
from the page cache, in the fastest of several passes; `share` is relative to the codec's own speed
on the same bytes with as many processes in the same run. Trust the shares by processor time where
other jobs use the same cores. Takes 15 minutes, 4 GB of memory and as much temporary disk space.
h5py, tensorstore and zarrs are measured if they are installed; this project does not need them.
"""

import json
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

from benchmarks.speed.gpu.machine import version_of
from benchmarks.speed.store.loading import BATCH_SIZE
from benchmarks.speed.store.opening import measure_opening
from benchmarks.speed.store.reading import measure_alternatives, measure_loader
from benchmarks.speed.store.sample_rows import COUNT, Rows, stored_rows, synthetic_rows
from benchmarks.speed.store.steps import measure_steps
from benchmarks.speed.store.tables import tables
from benchmarks.speed.store.writing import measure_writing
from shared.process.command import command_parser

RESULTS = Path("benchmarks/results/store.json")
PASSES = 4
LIBRARIES = ("numpy", "numcodecs", "zarr", "torch", "h5py", "tensorstore", "zarrs")


def measure(rows: Rows, folder: Path, passes: int) -> dict[str, Any]:
    """Measure everything; record the load of the machine before and after."""
    stored = sum(
        rows.store.ledger.read(shard).bytes_on_disk for shard in rows.store.ledger.complete()
    )
    of_all = rows.store.rows_in(rows.store.ledger.complete()) * rows.map_bytes
    document: dict[str, Any] = {
        "rows": rows.name,
        "preset": rows.store.metadata.preset.name,
        "codec": rows.store.metadata.codec,
        "samples": len(rows.positions),
        "map_bytes": rows.map_bytes,
        "ratio": of_all / len(rows.positions) / stored,
        "batch_size": BATCH_SIZE,
        "passes": passes,
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "versions": {name: version_of(name) for name in LIBRARIES},
    }
    document["loader"] = measure_loader(rows, passes)
    document["steps"] = measure_steps(rows, passes)
    document["alternatives"] = measure_alternatives(rows, folder, passes)
    document["writing"] = measure_writing(rows, folder, passes)
    document["opening"] = measure_opening(rows, folder)
    return {**document, "load_after": os.getloadavg()[0]}


def main(argv: list[str] | None = None) -> None:
    """Measure, write the JSON and print its tables."""
    parser = command_parser(__doc__, "python -m benchmarks.speed.store")
    parser.add_argument("--store", type=Path, help="a float16 store; default: synthetic rows")
    parser.add_argument("--samples", type=int, default=COUNT, help=f"default {COUNT}")
    parser.add_argument("--passes", type=int, default=PASSES, help=f"default {PASSES}")
    parser.add_argument("--json", type=Path, default=RESULTS, help=f"default {RESULTS}")
    arguments = parser.parse_args(argv)
    warnings.simplefilter("ignore")  # of other packages, for example about float16 in Zarr
    with tempfile.TemporaryDirectory(prefix="benchmark-store-") as name:
        folder = Path(name)
        if arguments.store is None:
            rows = synthetic_rows(folder, arguments.samples)
        else:
            rows = stored_rows(arguments.store.absolute(), arguments.store.name, arguments.samples)
        document = measure(rows, folder, arguments.passes)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    print(*tables(document), sep="\n\n")
    print(
        f"\n{document['rows']} rows, {document['samples']} of {document['preset']}, "
        f"{document['codec']}, ratio {document['ratio']:.2f}; {document['cores']} cores, "
        f"load {document['load_before']:.1f} to {document['load_after']:.1f}"
    )


if __name__ == "__main__":
    main()
