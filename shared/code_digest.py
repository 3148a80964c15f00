"""Which code is running, in a few characters: two runs with equal digests ran the same source.

It says that code differs, not how: a researcher's version control does.
"""

import functools
import hashlib
from importlib.util import find_spec
from pathlib import Path

from shared.digests import json_digest

PACKAGES = ("cache", "shared", "stage2_train")  # what a training from a store is computed by
UNKNOWN_CODE = "unknown"  # in place of a digest, of what was made before code was recorded
CHARACTERS = 12  # 48 bits: the chance that two of a thousand versions share a digest is 2e-9


@functools.cache  # what is imported stays as it was, whatever happens to the files
def code_digest(packages: tuple[str, ...] = PACKAGES) -> str:
    """Return a digest of the Python source of packages, where they are imported from.

    Paths relative to the packages and contents count, nothing else; files that cannot be imported
    by their name, such as those that editors leave behind, do not.

    Args:
        packages: their names, top-level.

    Returns:
        `CHARACTERS` hex digits.
    """
    sources = {}
    for package in packages:
        spec = find_spec(package)
        for folder in map(Path, (spec and spec.submodule_search_locations) or ()):
            for file in folder.rglob("*.py"):
                parts = (package, *file.relative_to(folder).with_suffix("").parts)
                if all(part.isidentifier() for part in parts) and file.is_file():
                    sources["/".join(parts)] = hashlib.sha256(file.read_bytes()).hexdigest()
    return json_digest(sources)[:CHARACTERS]
