"""The first step after a start, with kernels compiled anew and with kernels cached on disk."""

import json
import os
import subprocess
import sys
import time
from functools import partial

from benchmarks.speed.gpu.cases import Cases, Row
from benchmarks.speed.gpu.section_request import SectionRequest

CACHES = ("TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "CUDA_CACHE_PATH")
RECIPES = ("frozen_a", "cmt")
QUICK_RECIPES = ("cmt",)
BATCH_SIZE = 2


def measure_start(request: SectionRequest, cases: Cases) -> None:
    """Start training twice per recipe: with empty caches, then with those of the first start."""
    for recipe in QUICK_RECIPES if request.is_quick else RECIPES:
        for kernels in ("compiled", "cached"):
            about = {"recipe": recipe, "batch": BATCH_SIZE, "kernels": kernels}
            cases.run(about, partial(_start, request, cases, recipe, kernels))


def _start(request: SectionRequest, cases: Cases, recipe: str, kernels: str) -> Row:
    caches = request.scratch / f"caches_{recipe}"
    out = request.scratch / f"start_{recipe}_{kernels}"
    words = [str(request.store), recipe, str(BATCH_SIZE), request.precision, str(out)]
    started = time.perf_counter()
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks.speed.gpu.first_step", *words],
        env=os.environ | {name: str(caches / name) for name in CACHES},
        capture_output=True,
        text=True,
        timeout=max(1.0, cases.deadline - time.monotonic()),
        check=False,
    )
    if process.returncode:
        lines = process.stderr.strip().splitlines()
        raise RuntimeError(lines[-1] if lines else f"status {process.returncode}")
    row: Row = json.loads(process.stdout.splitlines()[-1])
    cached = sum(path.is_file() for path in caches.rglob("*"))
    return row | {"process_s": time.perf_counter() - started, "cached_files": cached}
