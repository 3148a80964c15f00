"""The options of `extract-features` that make a delta store instead of a store."""

import argparse

from cache.reader import CachedFeatures
from cache.storage.location import store_path
from shared.errors import ConfigError


def add_delta_options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--condition",
        metavar="NAME",
        help="store only what this condition changes of --base: a name of docs/conditions.md, or "
        "file.py:function",
    )
    parser.add_argument(
        "--base",
        type=store_path,
        metavar="STORE",
        help="finished store of the same samples, preset and weights as recorded",
    )


def asks_for_delta(args: argparse.Namespace) -> bool:
    """Return whether a delta store is asked for.

    Raises:
        ConfigError: if only half of what it needs is given.
    """
    if (args.condition is None) != (args.base is None):
        named, absent = ("--condition", "--base")[:: 1 if args.base is None else -1]
        raise ConfigError(
            f"{named} needs {absent}: a delta store holds what a --condition changes of its --base"
        )
    return args.condition is not None


def require_options_of_base(
    args: argparse.Namespace, base: CachedFeatures, batch_size: int | None
) -> None:
    """Make sure that no option asks for something else than the base has.

    Args:
        args: from the command line.
        base: the base.
        batch_size: that its identity names; None where it does not count.

    Raises:
        ConfigError: naming the option.
    """
    own = {"codec": base.store.metadata.codec, "variants": base.variants, "cut": base.cut}
    own |= {} if batch_size is None else {"batch_size": batch_size}
    for name, value in own.items():
        asked = getattr(args, name)
        if asked not in (None, value):
            option = name.replace("_", "-")
            raise ConfigError(
                f"--{option} {asked} differs from the base {base.path}, which has {value}; a delta "
                "is read together with its base and always has the same, so leave the option out"
            )
