"""The lists of planted faults fit the code, and what goes unnoticed is told from what does not.

In full: `python -m benchmarks.validation.planted_faults`.
"""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.validation.planted_faults import __main__ as command
from benchmarks.validation.planted_faults.fault_list import PACKAGES, Fault, read_faults
from benchmarks.validation.planted_faults.plant import (
    copy_repository,
    judge,
    require_own_modules,
    run_tests,
)

FAULTS = read_faults()
LEAST, MOST_IMPORTANT = 100, 50

CODE = "def half(x):\n    return x / 2\n\n\ndef twice(x):\n    return x * 2\n"
TESTS = """
import time
from code_of_mine import half, twice

def test_half():
    assert half(4) == 2

def test_twice_of_two():
    assert twice(2) == 4

def test_that_hangs_for_negative_numbers():
    while twice(1) < 0:
        time.sleep(1)
"""


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_every_fault_has_its_place_and_its_tests(
    fault: Fault, request: pytest.FixtureRequest
) -> None:
    assert not fault.problems(request.config.rootpath)
    assert fault.file.split("/")[0] in PACKAGES
    assert fault.harm
    assert fault.tests


def test_there_are_many_faults_in_every_package() -> None:
    assert len(FAULTS) >= LEAST
    for package in PACKAGES:
        assert sum(fault.file.startswith(f"{package}/") for fault in FAULTS) >= 15


def test_no_fault_of_the_kept_result_went_unnoticed() -> None:
    kept = json.loads(command.RESULTS.read_text())["faults"]
    assert len(kept) >= MOST_IMPORTANT
    assert [result["id"] for result in kept if not result["noticed"]] == []


@pytest.fixture
def fault() -> Fault:
    return Fault(
        id="mine",
        file="code_of_mine.py",
        old="return x * 2",
        new="return x * 3",
        harm="wrong",
        tests=("test_mine.py",),
    )


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "code_of_mine.py").write_text(CODE)
    (tmp_path / "test_mine.py").write_text(TESTS)
    return tmp_path


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"old": "return"}, "its old text is 2 times in code_of_mine.py"),
        ({"old": "return y"}, "its old text is 0 times in code_of_mine.py"),
        ({"new": "return x * 2"}, "changes nothing"),
        ({"new": "return x *"}, "invalid syntax"),
        ({"file": "no.py"}, "there is no no.py"),
        ({"tests": ("test_mine.py::test_thrice",)}, "no test_mine.py::test_thrice"),
        ({"tests": ("test_yours.py",)}, "there is no test_yours.py"),
    ],
)
def test_an_entry_that_no_longer_fits_the_code_is_named(
    repository: Path, fault: Fault, change: dict[str, object], problem: str
) -> None:
    assert fault.problems(repository) == []
    (found,) = replace(fault, **change).problems(repository)
    assert problem in found


def test_a_fault_is_noticed_unnoticed_or_late_and_the_code_restored(
    repository: Path, fault: Fault
) -> None:
    noticed = judge(fault, repository)
    assert noticed.by == "test_mine.py::test_twice_of_two"
    assert noticed.noticed

    unnoticed = judge(replace(fault, new="return x + x"), repository)
    assert not unnoticed.noticed
    assert not unnoticed.is_late

    hanging = replace(
        fault,
        new="return -1",
        tests=("test_mine.py::test_that_hangs_for_negative_numbers",),
    )
    late = judge(hanging, repository, time_limit_s=3)
    assert late.is_late
    assert not late.noticed
    assert (repository / "code_of_mine.py").read_text() == CODE

    with pytest.raises(RuntimeError, match="did not run"):
        judge(replace(fault, new="return x * 2\nimport nothing_like_it"), repository)
    assert not run_tests(repository, fault.tests, 60).noticed

    (repository / "test_mine.py").write_text(f"{TESTS}\ndef test_anyway():\n    assert False\n")
    always = replace(fault, new="return x + x", tests=("test_mine.py::test_anyway",))
    with pytest.raises(RuntimeError, match="test_anyway fails without fault mine, too"):
        judge(always, repository)


def test_a_copy_holds_what_git_does_not_ignore_as_it_is_now(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    git = ["git", "-C", str(repository)]
    subprocess.run([*git, "init", "-q"], check=True)
    (repository / ".gitignore").write_text("ignored\n")
    for name in ("ignored", "gone", "changed", "new"):
        (repository / name).write_text("before")
    subprocess.run([*git, "add", "gone", "changed", "code_of_mine.py"], check=True)
    (repository / "gone").unlink()
    (repository / "changed").write_text("now")
    copy = copy_repository(repository, tmp_path_factory.mktemp("copy"))
    names = {file.name for file in copy.rglob("*") if file.is_file()}
    assert names == {".gitignore", "changed", "new", "code_of_mine.py", "test_mine.py"}
    assert (copy / "changed").read_text() == "now"
    require_own_modules(copy, ["code_of_mine"])
    with pytest.raises(RuntimeError, match="found elsewhere"):
        require_own_modules(copy, ["json"])
