"""How every command begins and ends: its parser; status 0, or one message and another status."""

import argparse
import contextlib
import io
import logging
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from shared.errors import FrozenCmtError, InterruptedWorkError
from shared.process.system_faults import explain_system_fault

STDOUT = "standard output"


def command_parser(about: str | None, name: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of a command.

    Args:
        about: what `--help` prints, the module's docstring as it is.
        name: of the command; None for that of its file.
    """
    return argparse.ArgumentParser(
        name, description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )


@contextlib.contextmanager
def ending_at_once() -> Iterator[None]:
    """While entered, Ctrl-C ends the process with one line; for a command's imports, of seconds.

    A KeyboardInterrupt would not do: libraries that are half imported swallow it, or fail by it. A
    process that ignores Ctrl-C or handles it otherwise still does, and SIGTERM needs no handler.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _end_at_once)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end_at_once(signum: int, _: FrameType | None) -> None:
    print("stopped before it began", file=sys.stderr, flush=True)
    os._exit(128 + signum)


def run_command(work: Callable[[], int | None]) -> int:
    """Run a command's work; turn the errors a user can cause into one message on stderr.

    Returns:
        The exit status: what `work` returned (None is 0), 1 after a `FrozenCmtError` and where the
        system refuses a file or a GPU memory, 128 + signal number after an interruption, which
        includes that the reader of a pipe has gone: `| head` ends a command silently, as it ends
        any other. Anything else is a bug of ours and keeps its traceback.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        status = work() or 0
        _flush_stdout()
    except InterruptedWorkError as stopped:
        print(f"stopped: {stopped}", file=sys.stderr)
        return 128 + stopped.signum
    except KeyboardInterrupt:  # before there was work to finish, or at the second Ctrl-C
        print("stopped: run the same command again to resume or start over", file=sys.stderr)
        return 128 + signal.SIGINT
    except FrozenCmtError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        return _status_after(error)
    except RuntimeError as error:
        if not _is_out_of_gpu_memory(error):
            raise
        print(
            f"error: this needs more memory than the GPU has left: {str(error).splitlines()[0]} "
            "End other programs that use this GPU, or choose another with CUDA_VISIBLE_DEVICES "
            "(empty: compute on the CPU), and run the same command again",
            file=sys.stderr,
        )
        return 1
    return status


def _is_out_of_gpu_memory(error: RuntimeError) -> bool:
    torch = sys.modules.get("torch")  # which is not imported for this alone
    return torch is not None and isinstance(error, torch.OutOfMemoryError)


def _status_after(error: OSError) -> int:
    """Return the exit status after an error of the system, reported if it is not a bug of ours."""
    if isinstance(error, BrokenPipeError) and _has_lost_reader():
        _discard_stdout()
        return 128 + signal.SIGPIPE
    reason = explain_system_fault(error)
    if reason is None:
        raise error
    if error.filename == STDOUT:
        _discard_stdout()
    print(f"error: {reason}", file=sys.stderr)
    return 1


def _flush_stdout() -> None:
    """Write what is buffered now, since Python reports a failure at its very end badly."""
    try:
        sys.stdout.flush()
    except OSError as error:
        error.filename = STDOUT
        raise


def _has_lost_reader() -> bool:
    """Return whether stdout or stderr is a pipe that nobody reads any more."""
    poll = select.poll()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(io.UnsupportedOperation):
            poll.register(stream.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _discard_stdout() -> None:
    """Let what stdout still buffers go nowhere: Python would fail to write it when it ends."""
    with contextlib.suppress(io.UnsupportedOperation):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
