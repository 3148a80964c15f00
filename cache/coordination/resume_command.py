"""The recorded command of a store, for the place where the store is now."""

import shlex

from cache.storage.protocol import StorePath

OPTION = "--store"
# argparse takes any beginning that no other option of the command has.
SPELLINGS = tuple(OPTION[:length] for length in range(4, len(OPTION) + 1))


def resume_command(command: str, place: StorePath) -> str:
    """Return a recorded command with its store replaced: that one may have been moved or copied.

    Args:
        command: as it was recorded; it is returned as it is if it names no store.
        place: where the store is now.
    """
    try:
        words = shlex.split(command)
    except ValueError:  # no line of a shell
        return command
    is_named = False
    for number, word in enumerate(words):
        option, is_joined, _ = word.partition("=")
        if option not in SPELLINGS:
            continue
        is_named = True
        if is_joined:
            words[number] = f"{option}={place}"
        elif number + 1 < len(words):
            words[number + 1] = str(place)
    return shlex.join(words) if is_named else command
