"""Whatever the documents name exists: links, paths, modules, commands and their options."""

import importlib
import re
import tomllib
from contextlib import redirect_stdout, suppress
from fnmatch import fnmatch
from functools import cache
from io import StringIO
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("stage1_extract", "stage2_train", "cache", "shared")
TOP = (*PACKAGES, "benchmarks", "examples", "tests", "docs", "env")
CHANGELOG, LOG = ROOT / "CHANGELOG.md", ROOT / "LOG.md"  # these also name what has been removed
DOCUMENTS = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted(path for top in TOP for path in (ROOT / top).glob("README.md")),
]
GUIDES = [path for path in DOCUMENTS if path.parent in (ROOT, ROOT / "docs")]
SOURCES = sorted(path for top in ("benchmarks", "examples") for path in (ROOT / top).rglob("*.py"))
FILES = [
    path.relative_to(ROOT).as_posix()
    for path in (
        *ROOT.glob("*.md"),
        *(path for top in TOP for path in (ROOT / top).rglob("*")),
    )
    if "__pycache__" not in path.parts
]
SUBCOMMANDS = ("show", "verify", "diff", "digest", "estimate")
MAXIMUM_README_LINES = 120
GLOSSARY_WORDS = 6
# Files of users and of other projects.
ELSEWHERE = {"my_presets.py", "my_recipes.py", "cmt_voxel0075_vov_1600x640_cbgs.py"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def text_of(path: Path) -> str:
    return path.read_text().replace("\\\n", " ")


def inline_code(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", text)


def is_module(dotted: str) -> bool:
    path = ROOT.joinpath(*dotted.split("."))
    return path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()


@cache
def scripts() -> dict[str, str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return dict(project["scripts"])


@cache
def options_of(script: str, *subcommand: str) -> frozenset[str]:
    """Return the options that a command's own parser lists."""
    module, _, function = scripts()[script].partition(":")
    main = getattr(importlib.import_module(module), function)
    output = StringIO()
    with redirect_stdout(output), suppress(SystemExit):
        main([*subcommand, "--help"])
    listed = re.findall(r"^  (?:-h, )?(--[a-z-]+)", output.getvalue(), re.MULTILINE)
    assert "--help" in listed
    return frozenset(listed)


def all_options() -> frozenset[str]:
    of_stores = (options_of("feature-cache", name) for name in SUBCOMMANDS)
    return frozenset().union(*map(options_of, scripts()), *of_stores)


def commands_in(text: str) -> list[tuple[str, str]]:
    """Return the commands of this project in a text, each with the rest of its line."""
    names = "|".join(scripts())
    return re.findall(rf"(?:^ *|`)({names})\b([^`\n#]*)", text, re.MULTILINE)


@pytest.mark.parametrize("path", [*DOCUMENTS, CHANGELOG, LOG], ids=name_of)
def test_relative_links_lead_to_files(path: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text())
    missing = [
        target for target in targets if "://" not in target and not (path.parent / target).exists()
    ]
    assert missing == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_named_files_and_folders_exist(path: Path) -> None:
    tokens = {
        token
        for token in inline_code(text_of(path))
        if re.fullmatch(r"[\w./*-]+\.(?:py|md)|[\w./-]+/", token)
    }
    named = {token.rstrip("/").removeprefix("../") for token in tokens - ELSEWHERE}
    missing = {
        token
        for token in named
        if not any(fnmatch(file, token) or fnmatch(file, f"*/{token}") for file in FILES)
        and not (ROOT / token).is_dir()
    }
    assert missing == set()


@pytest.mark.parametrize("path", [*DOCUMENTS, LOG, *SOURCES], ids=name_of)
def test_modules_that_are_run_exist(path: Path) -> None:
    modules = re.findall(r"(?:python|[\d.]+) -m ([a-z]\w*(?:\.\w+)*)", text_of(path))
    missing = [name for name in modules if name.split(".")[0] in TOP and not is_module(name)]
    assert missing == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_dotted_names_lead_to_a_module_that_has_the_attribute(path: Path) -> None:
    dotted = [
        token
        for token in inline_code(text_of(path))
        if re.fullmatch(rf"(?:{'|'.join(TOP)})(?:\.\w+)+", token) and not token.endswith(".zarr")
    ]
    for name in dotted:
        parts = name.split(".")
        module, attributes = next(
            (
                (file, parts[end:])
                for end in range(len(parts), 0, -1)
                for file in (
                    ROOT.joinpath(*parts[:end]).with_suffix(".py"),
                    ROOT.joinpath(*parts[:end]) / "__init__.py",
                )
                if file.is_file()
            ),
            (None, []),
        )
        assert module is not None, name
        assert all(re.search(rf"\b{word}\b", module.read_text()) for word in attributes), name


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_named_commands_exist(path: Path) -> None:
    verbs = "extract|check|plot|draw|train|evaluate|export|feature"
    named = re.findall(rf"(?:^ *|`)((?:{verbs})-[\w-]+)", text_of(path), re.MULTILINE)
    assert set(named) <= set(scripts())
    targets = re.findall(r"(?:^ *|`)make (\w+)", text_of(path), re.MULTILINE)
    assert all(re.search(rf"^{name}:", (ROOT / "Makefile").read_text(), re.M) for name in targets)


@pytest.mark.parametrize("path", GUIDES, ids=name_of)
def test_named_options_are_those_of_the_parsers(path: Path) -> None:
    text, unknown = text_of(path), set()
    for script, rest in commands_in(text):
        subcommand = [word for word in rest.split()[:1] if word in SUBCOMMANDS]
        options = re.findall(r"(?<![\w-])--[a-z][a-z-]*", rest)
        unknown |= {
            (script, option) for option in options if option not in options_of(script, *subcommand)
        }
    bare = [token.split()[0] for token in inline_code(text) if token.startswith("--")]
    unknown |= {("any command", option) for option in set(bare) - all_options()}
    assert unknown == set()


def test_readme_is_short_and_names_every_command() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= MAXIMUM_README_LINES
    assert {script for script, _ in commands_in(readme)} == set(scripts())


def test_readme_explains_six_words() -> None:
    _, _, glossary = (ROOT / "README.md").read_text().partition("## Glossary\n")
    assert len(re.findall(r"^- \*\*[a-z ]+\*\*: ", glossary, re.MULTILINE)) == GLOSSARY_WORDS


def test_readme_maps_every_folder_of_the_packages() -> None:
    readme = (ROOT / "README.md").read_text()
    (tree,) = re.findall(r"## Folders\n+```\n(.*?)```", readme, re.DOTALL)
    mapped, package = set(), ""
    for indent, name in re.findall(r"^( *)(\w+)/ ", tree, re.MULTILINE):
        package = package if indent else name
        mapped.add(f"{package}/{name}" if indent else name)
    folders = {
        f"{package}/{path.parent.name}"
        for package in PACKAGES
        for path in (ROOT / package).glob("*/__init__.py")
    }
    assert folders == {name for name in mapped if "/" in name}
    assert all((ROOT / name).is_dir() for name in mapped)
