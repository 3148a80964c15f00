"""Every error a user can cause, one type per thing that can be wrong.

Each message says where, what was expected, what came and what to do. The commands print the message
alone and exit with status 1; a traceback means a bug of ours.
"""


class FrozenCmtError(Exception):
    """What the commands turn into one message and exit status 1."""


class ConfigError(FrozenCmtError, ValueError):
    """A preset, recipe or option that cannot be used."""


class DatasetError(FrozenCmtError, ValueError):
    """Raw nuScenes data that is missing, truncated or inconsistent."""


class CheckpointError(FrozenCmtError, ValueError):
    """A checkpoint that does not fit the model, or is not safe to load."""


class CacheError(FrozenCmtError, RuntimeError):
    """A feature store that cannot be written or read."""


class MissingRowError(CacheError, KeyError):
    """A row the store does not hold, or does not hold yet."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would print the message quoted


class IdentityError(CacheError):
    """A feature store made from something else than what is asked for."""


class FrozenError(FrozenCmtError, RuntimeError):
    """Something frozen that changed or could change."""


class ParityError(FrozenCmtError, AssertionError):
    """Cached and live features that do not give the same answer."""


class TrainingError(FrozenCmtError, RuntimeError):
    """Training that cannot go on."""


class InterruptedWorkError(FrozenCmtError):
    """Work stopped by Ctrl-C or SIGTERM, with what is finished kept; the message says how to go on.

    Args:
        message: for the user.
        signum: the signal; the command exits with 128 + signum, as shells expect.
    """

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.signum = signum
