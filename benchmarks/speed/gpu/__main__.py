"""Measure stage 2 on a GPU: steps in pieces, attention, starting, the loader, live training.

    python -m benchmarks.speed.gpu                                  # at most 8 minutes on an H200
    python -m benchmarks.speed.gpu --store train.zarr               # the maps of your own store
    python -m benchmarks.speed.gpu --presets r50_800x320 --sections attention steps
    python -m benchmarks.speed.gpu --quick                          # a rehearsal, on any CPU

Writes benchmarks/results/gpu.json after every section and its tables into docs/speed.md; a
rehearsal writes into neither. Without --store, a synthetic store is written for every preset: 1.6
GB of temporary disk space, and again as much page cache. Every section has a process of its own and
a share of the time; cases that do not fit are reported as not measured. Live training needs mmdet3d
and spconv, everything else only what stage 2 needs. /dev/shm is not used.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.markdown import pasted
from benchmarks.speed.gpu.cases import read_rows
from benchmarks.speed.gpu.goals import Document
from benchmarks.speed.gpu.machine import machine
from benchmarks.speed.gpu.plan import R50, SECTION_NAMES, VOV, Planned, limit_s, plan
from benchmarks.speed.gpu.section_request import SectionRequest
from benchmarks.speed.gpu.synthetic_store import write_synthetic_store
from benchmarks.speed.gpu.tables import markdown
from cache.reader import CachedFeatures
from shared.config.preset_catalogue import load_preset
from shared.process.command import command_parser

RESULTS = Path("benchmarks/results/gpu.json")
QUICK_RESULTS = Path("runs/gpu_quick.json")
PAGE = Path("docs/speed.md")
BEGIN, END = "<!-- benchmarks.speed.gpu: begin -->", "<!-- benchmarks.speed.gpu: end -->"
MINUTES = 7.5  # with the start of this process and the last table, at most 8
QUICK_PRESET, QUICK_SAMPLES = "tiny", 6
INTERRUPTED = "interrupted"
GRACE_S = 3.0  # from a section's own deadline until its process is ended


def main(argv: list[str] | None = None) -> None:
    """Measure, and write after every section."""
    arguments = _arguments(argv)
    if not arguments.quick and not torch.cuda.is_available():
        raise SystemExit("no CUDA device here: expected one to measure; --quick rehearses without")
    warnings.simplefilter("ignore")  # of other packages, for example about float16 in Zarr
    started = time.monotonic()
    deadline = started + 60.0 * arguments.minutes
    document: Document = {"is_rehearsal": arguments.quick, "machine": machine()}
    document |= {"stores": {}, "sections": []}
    with tempfile.TemporaryDirectory(prefix="benchmark-gpu-", dir=arguments.scratch) as name:
        stores = _stores(arguments, Path(name), document)
        planned = plan(list(stores), arguments.sections)
        for number, section in enumerate(planned):
            seconds = limit_s(planned[number:], deadline)
            scratch = Path(name) / f"{section.preset}_{section.section}"
            request = SectionRequest(
                section=section.section,
                store=stores[section.preset],
                rows=Path(name) / f"{number}.jsonl",
                scratch=scratch,
                seconds=max(0.0, seconds - GRACE_S),
                precision=arguments.precision,
                is_quick=arguments.quick,
            )
            document["sections"].append(_measured(section, request))
            document["seconds"] = time.monotonic() - started
            _write(arguments, document)
            if document["sections"][-1]["ended"] == INTERRUPTED:
                raise SystemExit(f"interrupted; what was measured is in {arguments.json}")
    print(markdown(document))


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__, "python -m benchmarks.speed.gpu")
    parser.add_argument("--store", type=Path, help="a complete float16 store with null features")
    parser.add_argument("--presets", nargs="+", default=[R50, VOV], help="without --store")
    parser.add_argument("--sections", nargs="+", choices=SECTION_NAMES, default=SECTION_NAMES)
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"default {MINUTES:g}")
    parser.add_argument("--precision", default="auto", help="as in a recipe; default auto")
    parser.add_argument("--quick", action="store_true", help="tiny preset, few steps: a rehearsal")
    parser.add_argument("--scratch", type=Path, help="folder for temporary files")
    parser.add_argument("--json", type=Path, help=f"default {RESULTS}; {QUICK_RESULTS} if --quick")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.presets = [QUICK_PRESET]
    arguments.is_published = arguments.json is None and not arguments.quick
    if arguments.json is None:
        arguments.json = QUICK_RESULTS if arguments.quick else RESULTS
    return arguments


def _stores(arguments: argparse.Namespace, folder: Path, document: Document) -> dict[str, Path]:
    """Return the store of every preset, written here unless the user named one."""
    if arguments.store is not None:
        store = CachedFeatures(arguments.store.absolute())
        store.require_complete()
        _ = store.null  # raises where there are none
        document["stores"][store.preset.name] = _described(store, "the user's") | {"disk_mb": 0.0}
        return {store.preset.name: arguments.store.absolute()}
    paths = {}
    for name in arguments.presets:
        path, started = folder / f"{name}.zarr", time.monotonic()
        samples = QUICK_SAMPLES if arguments.quick else None
        store = write_synthetic_store(path, load_preset(name), samples)
        document["stores"][name] = _described(store, "synthetic") | {
            "disk_mb": sum(file.stat().st_size for file in path.rglob("*")) / 1e6,
            "written_in_s": time.monotonic() - started,
        }
        paths[name] = path
    return paths


def _described(store: CachedFeatures, kind: str) -> dict[str, Any]:
    sample_mb = sum(values.nbytes for values in store.blank_maps.values()) / 1e6
    return {"samples": len(store.tokens), "sample_mb": sample_mb, "kind": kind}


def _measured(section: Planned, request: SectionRequest) -> dict[str, Any]:
    """Run a section in its own process; return its rows and how it ended."""
    command = [sys.executable, "-m", "benchmarks.speed.gpu.sections", *request.words()]
    errors = request.rows.with_suffix(".err")
    limit = request.seconds + GRACE_S
    started = time.monotonic()
    print(f"{section.preset}, {section.section}: at most {limit:.0f} s", flush=True)
    with errors.open("w") as file:
        # In a session of its own, so that processes it started end with it.
        process = subprocess.Popen(
            command, stderr=file, start_new_session=True, env=_environment(request)
        )
        try:
            status = process.wait(limit)
            ended = "complete" if status == 0 else _failure(status, errors)
        except subprocess.TimeoutExpired:
            ended = f"cut off after {limit:.0f} s"
        except KeyboardInterrupt:
            ended = INTERRUPTED
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    return {
        "preset": section.preset,
        "section": section.section,
        "seconds": time.monotonic() - started,
        "ended": ended,
        "rows": read_rows(request.rows),
    }


def _environment(request: SectionRequest) -> dict[str, str]:
    """Return the variables of a section; threads would only wait for each other's tiny tensors."""
    return {**os.environ, "OMP_NUM_THREADS": "1"} if request.is_quick else dict(os.environ)


def _failure(status: int, errors: Path) -> str:
    lines = errors.read_text().strip().splitlines()
    return f"failed with status {status}: {lines[-1] if lines else 'no message'}"


def _write(arguments: argparse.Namespace, document: Document) -> None:
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    if arguments.is_published:
        PAGE.write_text(pasted(PAGE.read_text(), BEGIN, END, markdown(document)))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does
    main()
