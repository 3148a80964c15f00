"""Every error a user can cause, one type per thing that can be wrong.

Each message says where, what was expected, what came and what to do. The commands print only the
message and exit with status 1; a traceback means a bug of ours.
"""


class FrozenCmtError(Exception):
    """The base of all others: the commands turn it into one message and exit status 1."""


class ConfigError(FrozenCmtError, ValueError):
    """A preset, recipe or option that cannot be used."""


class UsersProgramError(ConfigError):
    """A Python file of the user's, named where a command takes a function, fails."""


class DatasetError(FrozenCmtError, ValueError):
    """Raw nuScenes data that is missing, truncated or inconsistent."""


class CheckpointError(FrozenCmtError, ValueError):
    """A checkpoint that does not fit the model, or is not safe to load."""


class CacheError(FrozenCmtError, RuntimeError):
    """A feature store that cannot be written or read."""


class MissingRowError(CacheError, KeyError):
    """A row that the store does not hold, or does not hold yet."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would print the message quoted


class IdentityError(CacheError):
    """A feature store made from something other than what was asked for."""


class FrozenError(FrozenCmtError, RuntimeError):
    """Something frozen that changed or could change."""


class ParityError(FrozenCmtError, AssertionError):
    """Cached and live features that do not lead to the same result."""


class TrainingError(FrozenCmtError, RuntimeError):
    """Training that cannot continue."""


class InterruptedWorkError(FrozenCmtError):
    """Work stopped by Ctrl-C or SIGTERM; what is finished is kept, the message says how to resume.

    Args:
        message: for the user.
        signum: the signal; the command exits with 128 + signum, as shells expect.
    """

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.signum = signum
