"""Build mmcv's wheel with its CPU ops once and keep it in the user's cache; print the folder.

mmcv has no wheel for current torch. Without `--no-build-isolation` its build does not see torch and
silently leaves the ops out; with a GPU in sight it would compile CUDA kernels we do not use.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import torch

MMCV = "mmcv==2.1.0"
STEP = re.compile(r"^\s*\[(\d+)/(\d+)\]")  # ninja's counter
TAIL_LINES = 40
REPORT_EVERY_S = 20.0


def wheel_folder() -> Path:
    """Return the cache folder for this Python and this torch."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    return cache / "frozen-cmt" / "wheels" / f"{python}-torch{torch.__version__}"


def build(folder: Path) -> None:
    """Compile the wheel into `folder`, reporting ninja's progress on stderr."""
    environment = {
        **os.environ,
        "MMCV_WITH_OPS": "1",
        "FORCE_CUDA": "0",
        "CUDA_VISIBLE_DEVICES": "",
        "MAX_JOBS": str(os.cpu_count() or 2),
        # pip runs the build's helpers from PATH: this environment's ninja, not another one.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    pip = [sys.executable, "-m", "pip", "wheel", "-v", "--no-deps", "--no-build-isolation"]
    started = reported = time.monotonic()
    lines: list[str] = []
    with subprocess.Popen(
        [*pip, MMCV, "-w", str(folder)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines = [*lines[-TAIL_LINES:], line]
            step = STEP.match(line)
            if step and time.monotonic() - reported > REPORT_EVERY_S:
                reported = time.monotonic()
                done, total = int(step[1]), int(step[2])
                spent_s = reported - started
                left_s = spent_s / done * (total - done)
                print(
                    f"env: mmcv {done}/{total} files, {spent_s:.0f} s, about {left_s:.0f} s left",
                    file=sys.stderr,
                    flush=True,
                )
    if process.returncode:
        sys.exit("".join(lines) + "env: mmcv did not build; a C++ compiler (g++) is needed")


def main() -> None:
    """Build unless a wheel is there; print its folder."""
    folder = wheel_folder()
    if not list(folder.glob("mmcv-*.whl")):
        folder.mkdir(parents=True, exist_ok=True)
        build(folder)
    print(folder)


if __name__ == "__main__":
    main()
