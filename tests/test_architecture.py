"""The structure of the four packages: folders of a readable size, unique names, no import circles.

What each layer may import is in pyproject.toml, under import-linter.
"""

import ast
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path, PurePosixPath

import pytest

PACKAGES = ("stage1_extract", "stage2_train", "cache", "shared")
MOST_MODULES = 12  # in a folder, so that its list can be taken in at a glance
UNCOUNTED = ("__init__", "__main__")
COMMANDS = [
    "check-parity",
    "compare-runs",
    "evaluate-stage2",
    "export-checkpoint",
    "extract-features",
    "feature-cache",
    "plot-samples",
    "plot-sensor-weights",
    "sweep-stage2",
    "train-stage2",
]


@dataclass(frozen=True)
class Module:
    """A file of the four packages.

    Args:
        path: relative to the repository.
        tree: its syntax; the file is parsed, never imported.
    """

    path: PurePosixPath
    tree: ast.Module

    @property
    def folder(self) -> str:
        return str(self.path.parent)

    @property
    def dotted(self) -> str:
        """The name to import it by; that of the folder for an `__init__`."""
        return ".".join(self.path.with_suffix("").parts).removesuffix(".__init__")

    def imported(self) -> Iterator[str]:
        """Dotted names it imports, anywhere in the file; the last piece may be a function."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.path}:{node.lineno}: write the import in full"
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            elif isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)

    def public_names(self) -> list[str]:
        """Names of its own functions and classes, without the private ones."""
        kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        names = [node.name for node in self.tree.body if isinstance(node, kinds)]
        return [name for name in names if not name.startswith("_")]


@pytest.fixture(scope="module")
def repository(request: pytest.FixtureRequest) -> Path:
    return request.config.rootpath


@pytest.fixture(scope="module")
def modules(repository: Path) -> list[Module]:
    files = [file for package in PACKAGES for file in sorted((repository / package).rglob("*.py"))]
    assert len({file.relative_to(repository).parts[0] for file in files}) == len(PACKAGES)
    return [
        Module(PurePosixPath(file.relative_to(repository)), ast.parse(file.read_text("utf-8")))
        for file in files
    ]


def grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return the second elements of the pairs, by the first."""
    groups = defaultdict(list)
    for key, value in pairs:
        groups[key].append(value)
    return groups


def folder_imports(modules: list[Module]) -> dict[tuple[str, str], str]:
    """Return every pair (importing folder, imported folder) with an import as an example.

    What only starts a command is above its folder: nothing imports a `__main__`.
    """
    folder_of = {module.dotted: module.folder for module in modules}
    imports: dict[tuple[str, str], str] = {}
    for module in (module for module in modules if module.path.stem != "__main__"):
        for name in module.imported():
            # In `from package import function` it is the `__init__` that is imported.
            target = folder_of.get(name, folder_of.get(name.rpartition(".")[0]))
            if target is not None and target != module.folder:
                imports.setdefault((module.folder, target), f"{module.path} imports {name}")
    return imports


def circle_of(imports: dict[tuple[str, str], str]) -> list[str]:
    """Return the imports that form a circle between folders, none if there is no circle."""
    try:
        TopologicalSorter(grouped(imports)).prepare()
    except CycleError as error:
        # Each folder of the circle is imported by the next; the last is the first again.
        circle = error.args[1]
        return [imports[pair] for pair in zip(circle[1:], circle, strict=False)]
    return []


def test_no_folder_holds_more_than_twelve_modules(modules: list[Module]) -> None:
    held = grouped((m.folder, m.path.name) for m in modules if m.path.stem not in UNCOUNTED)
    crowded = {folder: len(names) for folder, names in held.items() if len(names) > MOST_MODULES}
    assert not crowded, f"more than {MOST_MODULES} modules in a folder; divide it: {crowded}"


def test_no_folders_import_each_other_in_a_circle(modules: list[Module]) -> None:
    circle = circle_of(folder_imports(modules))
    assert not circle, "folders import each other in a circle:\n" + "\n".join(circle)


def test_a_circle_would_be_noticed() -> None:
    imports = {("a", "b"): "a/x.py imports b.y", ("b", "c"): "b/y.py imports c.z"}
    assert circle_of(imports) == []
    back = {("c", "a"): "c/z.py imports a.x"}
    assert set(circle_of(imports | back)) == {*imports.values(), *back.values()}


def test_no_two_modules_share_a_name(modules: list[Module]) -> None:
    paths = grouped((m.path.stem, str(m.path)) for m in modules if m.path.stem not in UNCOUNTED)
    shared = {name: files for name, files in paths.items() if len(files) > 1}
    assert not shared, f"modules of the same name; name what tells them apart: {shared}"


def test_no_two_public_functions_or_classes_share_a_name(modules: list[Module]) -> None:
    places = grouped((name, str(m.path)) for m in modules for name in m.public_names())
    shared = {name: at for name, at in places.items() if len(at) > 1 and name != "main"}
    assert not shared, f"public functions or classes of the same name: {shared}"


def test_every_folder_says_what_it_may_import(modules: list[Module], repository: Path) -> None:
    texts = {
        m.folder: ast.get_docstring(m.tree) or "" for m in modules if m.path.stem == "__init__"
    }
    silent = []
    for folder in sorted({module.folder for module in modules}):
        has_readme = folder in PACKAGES and (repository / folder / "README.md").is_file()
        if folder not in texts or not (has_readme or "import" in texts[folder].lower()):
            silent.append(folder)
    assert not silent, f"no __init__.py, or its docstring does not say what to import: {silent}"


def test_the_commands_are_these_and_lead_to_a_function(
    modules: list[Module], repository: Path
) -> None:
    with (repository / "pyproject.toml").open("rb") as file:
        scripts: dict[str, str] = tomllib.load(file)["project"]["scripts"]
    changed = sorted(scripts.keys() ^ set(COMMANDS))
    assert not changed, f"commands appeared or went; users' scripts call them: {changed}"
    functions = {f"{m.dotted}:{name}" for m in modules for name in m.public_names()}
    dead = {command: target for command, target in scripts.items() if target not in functions}
    assert not dead, f"commands that name no function of ours: {dead}"


@pytest.mark.parametrize("command", ["lint-imports", "ruff check", "ruff format --check"])
def test_a_check_that_takes_no_time_passes(command: str, repository: Path) -> None:
    """The rest of `make check`, mypy, takes minutes."""
    tool, *options = command.split()
    done = subprocess.run(
        [Path(sys.executable).with_name(tool), *options],
        cwd=repository,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
