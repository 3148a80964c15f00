"""Options of the whole test suite."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden-dir",
        action="append",
        metavar="DIR",
        help="folder with golden sets of the official code; may be given several times. Default: "
        "tests/upstream/goldens, and ../shared/golden where it exists",
    )
