"""CRC-32C without Python's lock is that of google-crc32c."""

import sys
import threading
from collections.abc import Iterator

import google_crc32c
import numpy as np
import pytest

from shared import checksum
from shared.checksum import CHECK, SHORT_BYTES, crc32c

LONG = np.random.default_rng(0).integers(0, 256, SHORT_BYTES + 7, np.uint8)


@pytest.fixture(params=["without the lock", "as google-crc32c"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "as google-crc32c":
        monkeypatch.setattr(checksum, "_UNLOCKED", None)


@pytest.mark.usefixtures("way")
def test_the_check_value_is_that_of_crc_32c() -> None:
    content, expected = CHECK
    assert crc32c(content) == expected
    assert crc32c(np.frombuffer(content, np.uint8)) == expected


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("length", [0, 1, SHORT_BYTES - 1, SHORT_BYTES, SHORT_BYTES + 7])
def test_arrays_and_bytes_have_the_checksum_of_google_crc32c(length: int) -> None:
    content = LONG[:length]
    expected = google_crc32c.value(content.tobytes())
    assert crc32c(content) == crc32c(content.tobytes()) == expected


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("cut", [0, 3, 7, SHORT_BYTES, len(LONG)])
def test_a_checksum_of_pieces_is_that_of_the_whole(cut: int) -> None:
    pieces = crc32c(LONG[cut:], crc32c(LONG[:cut]))
    assert pieces == google_crc32c.value(LONG.tobytes())


def test_the_c_function_is_where_it_is_expected() -> None:
    assert google_crc32c.implementation == "c"
    assert checksum._UNLOCKED is not None


@pytest.fixture
def no_forced_switch() -> Iterator[None]:
    """Python takes its lock away from no thread: another one runs only if it is released."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(100.0)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("no_forced_switch")
def test_other_threads_run_while_a_long_checksum_is_computed() -> None:
    content = np.zeros(2**24, np.uint8)
    started = threading.Event()
    calls, most, is_enough = 0, 1000, False

    def compute() -> None:
        nonlocal calls
        started.set()
        while calls < most and not is_enough:
            crc32c(content)
            calls += 1

    thread = threading.Thread(target=compute)
    thread.start()
    started.wait()
    until_now, is_enough = calls, True
    thread.join()
    assert until_now < most
