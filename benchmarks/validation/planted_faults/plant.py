"""Planting a fault in a copy of the repository, and running tests there."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.validation.planted_faults.fault_list import Fault

TIME_LIMIT_S = 600
FIRST_FAILURE = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", re.MULTILINE)
TESTS_FAILED = 1  # pytest's exit status; 0 is that all passed, others that tests did not run


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What tests made of a fault.

    Args:
        by: the first test that failed; None if all passed, or if they took too long.
        seconds: until then.
        is_late: whether the time limit ended them, as it would if the fault makes them hang.
    """

    by: str | None
    seconds: float
    is_late: bool = False

    @property
    def noticed(self) -> bool:
        """Whether a test failed."""
        return self.by is not None


def copy_repository(root: Path, copy: Path) -> Path:
    """Copy what git does not ignore, changed files as they are now; return the copy."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (root / name).is_file():  # a deleted file is still listed
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, copy / name)
    return copy


def judge(
    fault: Fault, copy: Path, time_limit_s: float = TIME_LIMIT_S, *, sound: set[str] | None = None
) -> Verdict:
    """Plant a fault in a copy, run its tests there until one fails, and restore the copy.

    Args:
        fault: to plant.
        copy: of the repository.
        time_limit_s: for its tests.
        sound: tests known to pass without a fault; the one that noticed is tried, and added.

    Raises:
        ValueError: if its place is not there exactly once.
        RuntimeError: if the tests did not run, or the one that failed does so without the fault.
    """
    file = copy / fault.file
    whole = file.read_text()
    file.write_text(fault.planted_in(whole))
    try:
        verdict = run_tests(copy, fault.tests, time_limit_s)
    finally:
        file.write_text(whole)
    sound = set() if sound is None else sound
    if verdict.by is not None and verdict.by not in sound:
        again = run_tests(copy, [verdict.by], time_limit_s)
        if again.noticed or again.is_late:
            raise RuntimeError(f"{verdict.by} fails without fault {fault.id}, too")
        sound.add(verdict.by)
    return verdict


def run_tests(copy: Path, tests: Iterable[str], time_limit_s: float) -> Verdict:
    """Run tests of a copy on the modules of that copy until one fails.

    Raises:
        RuntimeError: if they did not run, for instance because a module cannot be imported.
    """
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "--tb=short"]
    command += ["-p", "no:cacheprovider", *dict.fromkeys(tests)]
    started = time.monotonic()
    try:
        run = subprocess.run(
            command, cwd=copy, env=_environment(copy), capture_output=True, timeout=time_limit_s
        )
    except subprocess.TimeoutExpired:
        return Verdict(by=None, seconds=round(time.monotonic() - started, 1), is_late=True)
    seconds = round(time.monotonic() - started, 1)
    printed = run.stdout.decode()
    failed = FIRST_FAILURE.search(printed)
    if run.returncode == TESTS_FAILED and failed is not None:
        return Verdict(by=failed[1], seconds=seconds)
    if run.returncode:
        raise RuntimeError(f"{' '.join(command)} did not run:\n{printed}{run.stderr.decode()}")
    return Verdict(by=None, seconds=seconds)


def require_own_modules(copy: Path, packages: Sequence[str]) -> None:
    """Make sure that Python finds the packages in the copy, and not where it runs now.

    Raises:
        RuntimeError: if not; every fault would then go unnoticed.
    """
    script = f"import {', '.join(packages)}; print({', '.join(f'{p}.__file__' for p in packages)})"
    command = [sys.executable, "-c", script]
    run = subprocess.run(command, cwd=copy, env=_environment(copy), capture_output=True, check=True)
    places = run.stdout.decode().split()
    if not all(place.startswith(str(copy)) for place in places):
        raise RuntimeError(f"the modules to judge were found elsewhere: {places}")


def _environment(copy: Path) -> dict[str, str]:
    """Return an environment in which only this copy is imported, and nothing compiled before."""
    own = {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    # Plugins that other packages bring are not needed, and some take seconds to import.
    return os.environ | own | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
