"""Options of the whole test suite."""

from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden-dir",
        action="append",
        metavar="DIR",
        help="folder with golden sets of the official code; may be given several times. Default: "
        "tests/upstream/goldens, and ../shared/golden where it exists",
    )
    parser.addoption(
        "--nuscenes-real",
        metavar="DIR",
        help="folder with real nuScenes frames. Default: ../shared/nuscenes_real where it exists",
    )


@pytest.fixture(scope="session")
def nuscenes_real(request: pytest.FixtureRequest) -> Path:
    """The folder with real nuScenes frames; skips the test where there is none."""
    config = request.config
    given = config.getoption("--nuscenes-real")
    path = (
        config.invocation_params.dir / given
        if given
        else config.rootpath.parent / "shared" / "nuscenes_real"
    )
    if given and not path.is_dir():
        raise pytest.UsageError(f"--nuscenes-real {given}: no such folder")
    if not path.is_dir():
        pytest.skip(f"no real nuScenes frames in {path}; name a folder with --nuscenes-real DIR")
    return path
