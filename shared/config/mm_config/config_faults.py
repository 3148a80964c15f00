"""The faults of a config, collected so that a user sees all of them at once."""

from collections.abc import Iterator, Mapping

from shared.errors import ConfigError

SHOWN_CHARS = 100


class Report:
    """The faults of a config by field path, in the order in which they were noticed."""

    def __init__(self) -> None:
        self.faults: dict[str, str] = {}

    def add(self, path: str, fault: str) -> None:
        """Note a fault, unless this field or a section around it has a fault already.

        Args:
            path: of the field, e.g. "model.img_neck.num_outs".
            fault: what to print after the path, e.g. ": missing".
        """
        if not self.covers(path):
            self.faults[path] = fault

    def covers(self, path: str) -> bool:
        """Return whether a field, or a section around it, has a fault."""
        return any(
            path == known or path.startswith((f"{known}.", f"{known}[")) for known in self.faults
        )

    def raise_faults(self, claim: str, otherwise: str) -> None:
        """Stop here if there are faults.

        Args:
            claim: what the faults show, e.g. "a.py is not a detector this project can build".
            otherwise: what to do if they are no mistakes.

        Raises:
            ConfigError: with one line per fault.
        """
        if self.faults:
            raise ConfigError(
                f"{claim}:\n"
                + "".join(f"  {path}{fault}\n" for path, fault in self.faults.items())
                + f"Remove or correct fields that are there by mistake; {otherwise}"
            )


def shown(value: object) -> str:
    """Return a value as shown in messages, shortened if long."""
    text = repr(value)
    return text if len(text) <= SHOWN_CHARS else f"{text[: SHOWN_CHARS - 3]}..."


def leaves(path: str, value: object) -> Iterator[tuple[str, object]]:
    """Yield every field below a path that is not a dict, with its own path."""
    if isinstance(value, Mapping) and value:
        for name, field in value.items():
            yield from leaves(f"{path}.{name}", field)
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        for index, item in enumerate(value):
            yield from leaves(f"{path}[{index}]", item)
    else:
        yield path, value
