"""Options and fixtures of the whole test suite."""

import gc
import logging
import os
import random
import signal
import sys
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import stage1_extract.backbones  # noqa: F401  before a test imports mmdet or mmdet3d
from shared.synthetic_nuscenes import SyntheticConfig, write_synthetic_nuscenes

# Torch's threads should sleep while they wait for each other: busy waiting made an extraction ten
# times slower when other processes used the same cores. Read when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pytest_configure() -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what is in background
        signal.signal(signal.SIGINT, signal.default_int_handler)  # child processes inherit it


def pytest_collectstart() -> None:
    gc.disable()  # until everything is imported: few of these million objects are ever garbage


def pytest_collection_finish() -> None:
    gc.freeze()  # nor looked at again by every collection
    gc.enable()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden-dir",
        action="append",
        metavar="DIR",
        help="folder with golden sets of the official code; may be repeated. Default: "
        "tests/upstream/goldens, and ../shared/golden where it exists",
    )
    parser.addoption(
        "--nuscenes-real",
        metavar="DIR",
        help="folder with real nuScenes frames. Default: ../shared/nuscenes_real where it exists",
    )


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """What a test draws without a generator of its own is the same in every run and order."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  other packages draw from it
    if "torch" in sys.modules:  # tests of the cache do without
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="session")
def nuscenes_real(request: pytest.FixtureRequest) -> Path:
    """The folder with real nuScenes frames; skips the test if there is none."""
    config = request.config
    option = config.getoption("--nuscenes-real")
    path = (
        config.invocation_params.dir / option
        if option
        else config.rootpath.parent / "shared" / "nuscenes_real"
    )
    if option and not path.is_dir():
        raise pytest.UsageError(f"--nuscenes-real {option}: no such folder")
    if not path.is_dir():
        pytest.skip(f"no real nuScenes frames in {path}; name a folder with --nuscenes-real DIR")
    return path


@pytest.fixture(scope="session")
def synthetic_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic nuScenes of one training and one validation scene, three samples each."""
    root = tmp_path_factory.mktemp("synthetic") / "nuscenes"
    config = SyntheticConfig(
        scenes_train=1, scenes_val=1, samples_per_scene=3, azimuth_steps=360, render_stride_px=4
    )
    write_synthetic_nuscenes(root, config, workers=1)
    return root


@pytest.fixture(scope="session")
def tiny_store(synthetic_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The training scene, extracted with the tiny preset; tests must not write to it."""
    from stage1_extract.__main__ import main as extract_features

    store = tmp_path_factory.mktemp("stores") / "tiny.zarr"
    where = ["--nuscenes", str(synthetic_root), "--version", "v1.0-mini", "--split", "mini_train"]
    assert extract_features(["tiny", *where, "--store", str(store)]) == 0
    return store


@pytest.fixture(scope="session")
def tiny_val_store(synthetic_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The validation scene, extracted with the tiny preset; tests must not write to it."""
    from stage1_extract.__main__ import main as extract_features

    store = tmp_path_factory.mktemp("stores") / "tiny_val.zarr"
    where = ["--nuscenes", str(synthetic_root), "--version", "v1.0-mini", "--split", "mini_val"]
    assert extract_features(["tiny", *where, "--store", str(store)]) == 0
    return store


@pytest.fixture(scope="session")
def tiny_store_8bit(synthetic_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same scene stored in 8 bits; tests must not write to it."""
    from stage1_extract.__main__ import main as extract_features

    store = tmp_path_factory.mktemp("stores") / "tiny8.zarr"
    where = ["--nuscenes", str(synthetic_root), "--version", "v1.0-mini", "--split", "mini_train"]
    command = ["tiny", *where, "--store", str(store), "--codec", "uint8-zstd-1"]
    assert extract_features(command) == 0
    return store


@pytest.fixture(scope="session")
def s3_server() -> Iterator[tuple[str, int]]:
    """Host and port of an S3 server on loopback, run by this process."""
    pytest.importorskip("obstore")
    threaded = pytest.importorskip("moto.moto_server.threaded_moto_server")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = threaded.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()
    server.stop()


def new_bucket(server: tuple[str, int], patch: pytest.MonkeyPatch) -> str:
    """Create a bucket on this server and set the environment to reach it; return its URL."""
    endpoint = f"http://{server[0]}:{server[1]}"
    patch.setenv("AWS_ENDPOINT_URL", endpoint)
    patch.setenv("AWS_REGION", "us-east-1")
    patch.setenv("AWS_ACCESS_KEY_ID", "some-key")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-of-mine")
    bucket = f"bucket-{uuid.uuid4().hex[:8]}"
    request = urllib.request.Request(f"{endpoint}/{bucket}", method="PUT")
    urllib.request.urlopen(request, timeout=10).close()
    return f"s3://{bucket}"


@pytest.fixture
def s3(s3_server: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of an empty bucket on loopback."""
    return new_bucket(s3_server, monkeypatch)
