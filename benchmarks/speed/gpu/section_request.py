"""What the process of a section is told to measure."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class SectionRequest:
    """A section, and where its rows go.

    Args:
        section: its name, see `sections.SECTIONS`.
        store: complete float16 store with null features.
        rows: file for the rows.
        scratch: folder for runs and caches, deleted by the caller.
        seconds: that the section may take.
        precision: of training, as a recipe names it.
        is_quick: a rehearsal: few steps, small batches.
    """

    section: str
    store: Path
    rows: Path
    scratch: Path
    seconds: float
    precision: str = "auto"
    is_quick: bool = False

    def words(self) -> list[str]:
        """Return the command line that `read` parses."""
        options = ["--quick"] if self.is_quick else []
        paths = [str(path) for path in (self.store, self.rows, self.scratch)]
        return [self.section, *paths, str(self.seconds), self.precision, *options]

    @classmethod
    def read(cls, argv: Sequence[str] | None = None) -> "SectionRequest":
        """Parse the command line of a section's process."""
        parser = argparse.ArgumentParser()
        parser.add_argument("section")
        for name in ("store", "rows", "scratch"):
            parser.add_argument(name, type=Path)
        parser.add_argument("seconds", type=float)
        parser.add_argument("precision")
        parser.add_argument("--quick", action="store_true", dest="is_quick")
        return cls(**vars(parser.parse_args(argv)))
