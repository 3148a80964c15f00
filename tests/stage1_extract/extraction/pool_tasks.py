"""Tasks for a pool of processes, which they import in no time."""

import os


def nothing() -> None:
    """Do nothing."""


def niceness() -> int:
    """Return that of the process."""
    return os.getpriority(os.PRIO_PROCESS, 0)


class TwoPartsError(Exception):
    """Cannot be unpickled."""

    def __init__(self, what: str, when: str) -> None:
        super().__init__(f"{what} {when}")


def raise_in_two_parts() -> None:
    """Raise what cannot be sent."""
    raise TwoPartsError("dark", "by night")
