"""From the name of a place to its class; the only module that knows both classes."""

import argparse
from pathlib import Path

from cache.storage.bucket import SCHEME
from cache.storage.directory import DirectoryPath
from cache.storage.object_storage import object_path
from cache.storage.protocol import StorePath
from shared.errors import ConfigError


def parse_store_path(text: str) -> StorePath:
    """Read a directory or an s3:// URL.

    Raises:
        ConfigError: if it is a different URL, or the extra `remote` is needed and not installed.
    """
    if text.startswith(SCHEME):
        return object_path(text)
    scheme, is_url, _ = text.partition("://")
    if is_url:
        raise ConfigError(f"a store is in a directory or on {SCHEME}, not on {scheme}://")
    return DirectoryPath(text)


def store_path(text: str) -> StorePath:
    """Read a directory or an s3:// URL of a command line."""
    try:
        return parse_store_path(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_deltas_option(parser: argparse.ArgumentParser, name: str, about: str) -> None:
    """Add an option of a command that takes delta stores, by default none.

    Args:
        parser: of the command.
        name: of the option.
        about: its help.
    """
    parser.add_argument(name, nargs="+", type=store_path, default=[], metavar="DELTA", help=about)


def as_store_path(path: Path | StorePath) -> StorePath:
    """Return a place with all the verbs of a store; a plain `Path` names a directory."""
    return DirectoryPath(path) if isinstance(path, Path) else path


def absolute_place(path: StorePath) -> StorePath:
    """Return the same place for processes with other working directories."""
    return path.absolute() if isinstance(path, DirectoryPath) else path
