"""The first signal is noted, the second ends at once, and no wait lasts for ever after a signal."""

import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

from shared.process import interrupts
from shared.process.interrupts import Interrupts, StuckError

PATIENCE_S = 0.2


@pytest.fixture(autouse=True)
def _short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "PATIENCE_S", PATIENCE_S)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def send_while_waiting() -> None:
    threading.Timer(0.05, send, [signal.SIGTERM]).start()


@pytest.mark.parametrize("ask", [send_while_waiting, lambda: send(signal.SIGTERM)])
def test_a_wait_that_hangs_ends_soon_after_a_signal(ask: Callable[[], None]) -> None:
    with Interrupts() as caught:
        ask()
        started = time.monotonic()
        with pytest.raises(StuckError, match=r"within 0\.2 s of the signal"), caught.waiting():
            threading.Event().wait(60)
        assert PATIENCE_S <= time.monotonic() - started < 30
        assert caught.signum == signal.SIGTERM


def test_work_that_is_not_waiting_takes_as_long_as_it_takes() -> None:
    with Interrupts() as caught:
        with caught.waiting():
            send(signal.SIGTERM)
        threading.Event().wait(2 * PATIENCE_S)
        with caught.waiting():
            pass
        threading.Event().wait(2 * PATIENCE_S)
    assert caught.signum == signal.SIGTERM


def test_a_second_signal_ends_at_once_and_the_handlers_are_put_back() -> None:
    numbers = (*Interrupts.SIGNALS, signal.SIGALRM)
    before = [signal.getsignal(number) for number in numbers]
    with Interrupts() as caught:
        send(signal.SIGINT)
        assert caught.signum == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGTERM)
    assert [signal.getsignal(number) for number in numbers] == before
