"""How every command ends: with status 0, or with one message and another status."""

import logging
import signal
import sys
from collections.abc import Callable

from shared.errors import FrozenCmtError, InterruptedWorkError


def run_command(work: Callable[[], int | None]) -> int:
    """Run a command's work; turn the errors a user can cause into one message on stderr.

    Returns:
        The exit status: what `work` returned (None is 0), 1 after a `FrozenCmtError`, 128 + signal
        number after an interruption. Anything else is a bug of ours and keeps its traceback.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        return work() or 0
    except InterruptedWorkError as stopped:
        print(f"stopped: {stopped}", file=sys.stderr)
        return 128 + stopped.signum
    except KeyboardInterrupt:  # before there was work to finish, or at the second Ctrl-C
        print("stopped: run the same command again to resume or start over", file=sys.stderr)
        return 128 + signal.SIGINT
    except FrozenCmtError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
