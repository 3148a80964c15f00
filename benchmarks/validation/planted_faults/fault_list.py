"""The faults, read from TOML and checked: they name places in code that goes on changing."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("cache", "shared", "stage1_extract", "stage2_train")
LISTS = Path(__file__).parent / "lists"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A change of the code that some test ought to notice.

    Args:
        id: unique.
        file: to change, relative to the repository.
        old: text that occurs in it exactly once.
        new: text to put in its place.
        harm: what a user would suffer.
        tests: files of tests, or single tests (`file::name`), that ought to notice.
    """

    id: str
    file: str
    old: str
    new: str
    harm: str
    tests: tuple[str, ...]

    def planted_in(self, text: str) -> str:
        """Return the text of the file with this fault.

        Raises:
            ValueError: if the place is not there exactly once.
        """
        times = text.count(self.old)
        if times != 1:
            raise ValueError(
                f"fault {self.id}: its old text is {times} times in {self.file}, expected once; "
                "the code has changed, so change the fault with it, or drop it"
            )
        return text.replace(self.old, self.new)

    def problems(self, root: Path) -> list[str]:
        """Return what is wrong with this entry for the code below `root`; empty if nothing is."""
        problems = []
        file = root / self.file
        if not file.is_file():
            problems.append(f"fault {self.id}: there is no {self.file}")
        else:
            try:
                compile(self.planted_in(file.read_text()), self.file, "exec")
            except (ValueError, SyntaxError) as error:
                problems.append(str(error))
        if self.old == self.new:
            problems.append(f"fault {self.id} changes nothing")
        for test in self.tests:
            path, _, name = test.partition("::")
            if not (root / path).is_file() or f"def {name}" not in (root / path).read_text():
                problems.append(f"fault {self.id}: there is no {test}")
        return problems


def read_faults(only: Sequence[str] = (), folder: Path = LISTS) -> list[Fault]:
    """Return all faults, or those with these ids, in the order of the lists.

    Raises:
        ValueError: if an id is there twice, or one of `only` not at all.
    """
    faults = [
        Fault(**{**entry, "tests": tuple(entry["tests"])})
        for file in sorted(folder.glob("*.toml"))
        for entry in tomllib.loads(file.read_text())["fault"]
    ]
    ids = [fault.id for fault in faults]
    twice = sorted({name for name in ids if ids.count(name) > 1})
    unknown = sorted(set(only) - set(ids))
    if twice or unknown:
        raise ValueError(f"fault ids that are there twice: {twice}; not at all: {unknown}")
    return [fault for fault in faults if not only or fault.id in only]
