"""Deltas of the synthetic training scene, extracted as a user does it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from stage1_extract.__main__ import main as extract_features
from stage1_extract.conditions.catalogue.condition_catalogue import CATALOGUE

OWN = Path(__file__).with_name("own_conditions.py")


def delta_options(root: Path, base: Path, store: Path, condition: str) -> list[str]:
    """Return the command line of a delta; the samples are those of the base."""
    if condition not in CATALOGUE:
        condition = f"{OWN}:{condition}"
    where = ["--nuscenes", str(root), "--base", str(base), "--store", str(store)]
    return ["tiny", *where, "--condition", condition]


@pytest.fixture(scope="module")
def extracted(
    synthetic_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Path, str], Path]:
    """Return a function that extracts the delta of a base and a condition, each once."""
    folder, done = tmp_path_factory.mktemp("deltas"), dict[tuple[Path, str], Path]()

    def extract(base: Path, condition: str) -> Path:
        key = (base, condition)
        if key not in done:
            store = folder / f"{len(done)}.{condition}"
            assert extract_features(delta_options(synthetic_root, base, store, condition)) == 0
            done[key] = store
        return done[key]

    return extract
