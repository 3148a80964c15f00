"""What the tests of training and evaluation share."""

from pathlib import Path
from typing import Any

import pytest
from nuscenes import NuScenes


@pytest.fixture(scope="session")
def tables(synthetic_root: Path) -> Any:
    """The synthetic tables, opened by nuscenes-devkit; tests must not change them."""
    return NuScenes("v1.0-mini", str(synthetic_root), verbose=False)
