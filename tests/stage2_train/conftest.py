"""What the tests of training and evaluation share."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nuscenes import NuScenes

from tests.forked_command import ForkedCommand, forked


@pytest.fixture(scope="session")
def tables(synthetic_root: Path) -> Any:
    """The synthetic tables, opened by nuscenes-devkit; tests must not change them."""
    return NuScenes("v1.0-mini", str(synthetic_root), verbose=False)


@pytest.fixture(scope="session")
def forked_training() -> Iterator[ForkedCommand]:
    """Runs `train-stage2` in processes that may be killed."""
    with forked(
        "stage2_train.__main__",
        "stage2_train.training.build",
        "stage2_train.evaluation.conditions.store_validator",
    ) as command:
        yield command
