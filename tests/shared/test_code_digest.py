"""The digest of the code changes with what can be imported, and with nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

from shared.code_digest import CHARACTERS, PACKAGES, code_digest

PRINTED = "from shared.code_digest import code_digest; print(code_digest(('mine', 'mine_too')))"


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A folder with two packages, to be first in the path of imports."""
    for file in ("mine/__init__.py", "mine/aqr/weights.py", "mine_too/__init__.py"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("SCALE = 1\n")
    return tmp_path


def digest_in_a_new_process(folder: Path, root: Path) -> str:
    paths = f"import sys; sys.path[:0] = [{str(folder)!r}, {str(root)!r}]; "
    command = [sys.executable, "-c", paths + PRINTED]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_every_change_of_the_source_changes_the_digest(
    packages: Path, request: pytest.FixtureRequest
) -> None:
    root = request.config.rootpath
    weights = packages / "mine" / "aqr" / "weights.py"
    digests = [digest_in_a_new_process(packages, root)]
    weights.write_text("SCALE = 2\n")
    digests.append(digest_in_a_new_process(packages, root))
    weights.rename(weights.with_name("renamed.py"))
    digests.append(digest_in_a_new_process(packages, root))
    (packages / "mine_too" / "added.py").touch()
    digests.append(digest_in_a_new_process(packages, root))

    assert len(set(digests)) == len(digests)
    assert {len(digest) for digest in digests} == {CHARACTERS}
    (packages / "mine_too" / "added.py").unlink()
    weights.with_name("renamed.py").rename(weights)
    weights.write_text("SCALE = 1\n")
    assert digest_in_a_new_process(packages, root) == digests[0]


def test_files_that_cannot_be_imported_do_not_count(
    packages: Path, request: pytest.FixtureRequest
) -> None:
    root = request.config.rootpath
    before = digest_in_a_new_process(packages, root)

    folder = packages / "mine" / "aqr"
    (folder / ".#weights.py").symlink_to("editor@machine.4711")  # the lock of an editor
    (folder / "linked.py").symlink_to("absent.py")
    for name in ("weights.py~", "weights copy.py", "results.csv", ".checkpoints/weights.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("SCALE = 3\n")

    assert digest_in_a_new_process(packages, root) == before


def test_the_same_packages_elsewhere_have_the_same_digest(
    packages: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> None:
    root, copy = request.config.rootpath, tmp_path_factory.mktemp("copy") / "deeper"
    packages.rename(copy)
    elsewhere = digest_in_a_new_process(copy, root)
    copy.rename(packages)
    assert digest_in_a_new_process(packages, root) == elsewhere


def test_a_training_s_code_is_that_of_the_three_packages_it_is_made_of() -> None:
    assert code_digest() == code_digest(PACKAGES)
    parts = {code_digest((package,)) for package in PACKAGES}
    assert len(parts | {code_digest(), code_digest(())}) == len(PACKAGES) + 2
