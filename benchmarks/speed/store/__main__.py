"""How fast the store is read, written and opened, against its own codec and against others.

    python -m benchmarks.speed.store                        # made-up rows of r50_800x320
    python -m benchmarks.speed.store --store train.zarr     # the first rows of yours

Writes benchmarks/results/store.json and prints its tables. GB are of uncompressed feature maps,
from the page cache, the best of several passes; `share` is of the codec's own speed on the same
bytes with as many processes in the same run. PhotoWeights the shares by processor time where other jobs
use the same cores. Takes a quarter of an hour, 4 GB of memory and as much of temporary files.
h5py, tensorstore and zarrs are measured if they are installed; they are no part of this project.
"""

import argparse
import json
import os
import tempfile
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.speed.store.loading import BATCH_SIZE
from benchmarks.speed.store.opening import measure_opening
from benchmarks.speed.store.reading import measure_alternatives, measure_loader
from benchmarks.speed.store.sample_rows import COUNT, Rows, stored_rows, synthetic_rows
from benchmarks.speed.store.steps import measure_steps
from benchmarks.speed.store.tables import tables
from benchmarks.speed.store.writing import measure_writing

RESULTS = Path("benchmarks/results/store.json")
PASSES = 4
LIBRARIES = ("numpy", "numcodecs", "zarr", "torch", "h5py", "tensorstore", "zarrs")


def versions() -> dict[str, str]:
    """Return the version of every library that is installed."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def measure(rows: Rows, folder: Path, passes: int) -> dict[str, Any]:
    """Measure everything; the load of the machine is recorded before and after."""
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
        "versions": versions(),
    }
    document["loader"] = measure_loader(rows, passes)
    document["steps"] = measure_steps(rows, passes)
    document["alternatives"] = measure_alternatives(rows, folder, passes)
    document["writing"] = measure_writing(rows, folder, passes)
    document["opening"] = measure_opening(rows, folder)
    return {**document, "load_after": os.getloadavg()[0]}


def main(argv: list[str] | None = None) -> None:
    """Measure, write the JSON and print its tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.store",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--store", type=Path, help="a float16 store; default: made-up rows")
    parser.add_argument("--samples", type=int, default=COUNT, help=f"default {COUNT}")
    parser.add_argument("--passes", type=int, default=PASSES, help=f"default {PASSES}")
    parser.add_argument("--json", type=Path, default=RESULTS, help=f"default {RESULTS}")
    arguments = parser.parse_args(argv)
    warnings.simplefilter("ignore")  # other packages', of float16 in Zarr and the like
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
