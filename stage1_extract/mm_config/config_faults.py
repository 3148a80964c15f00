"""What is wrong with a config, collected, so that a user sees all of it at once."""

from collections.abc import Iterator, Mapping

from shared.errors import ConfigError

SHOWN_CHARS = 100


class Report:
    """What is wrong with a config, by field path, in the order found."""

    def __init__(self) -> None:
        self.faults: dict[str, str] = {}

    def add(self, path: str, fault: str) -> None:
        """Note a fault, unless this field or one around it is at fault already.

        Args:
            path: of the field, e.g. "model.img_neck.num_outs".
            fault: what to print behind the path, e.g. ": missing".
        """
        if not self.covers(path):
            self.faults[path] = fault

    def covers(self, path: str) -> bool:
        """Say whether a field, or a section around it, is at fault."""
        return any(
            path == known or path.startswith((f"{known}.", f"{known}[")) for known in self.faults
        )

    def raise_faults(self, source: str) -> None:
        """Stop here if there is any fault.

        Raises:
            ConfigError: one line for each.
        """
        if self.faults:
            raise ConfigError(
                f"{source} is not a detector this project can build:\n"
                + "".join(f"  {path}{fault}\n" for path, fault in self.faults.items())
                + "Remove or correct a field that should not be there; for a detector that does "
                "differ, write a function that returns a Preset, as shared/config/preset_catalogue.py does"
            )


def shown(value: object) -> str:
    """Return a value as it may stand in a message, cut if long."""
    text = repr(value)
    return text if len(text) <= SHOWN_CHARS else f"{text[: SHOWN_CHARS - 3]}..."


def leaves(path: str, value: object) -> Iterator[tuple[str, object]]:
    """Yield every field below a path that is no dict, with its own path."""
    if isinstance(value, Mapping) and value:
        for name, one in value.items():
            yield from leaves(f"{path}.{name}", one)
    elif isinstance(value, list | tuple) and any(isinstance(one, Mapping) for one in value):
        for index, one in enumerate(value):
            yield from leaves(f"{path}[{index}]", one)
    else:
        yield path, value
