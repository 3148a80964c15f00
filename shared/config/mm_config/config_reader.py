"""Reads a config field by field, so that no field goes unnoticed.

A `Section` hands out each field once and checks it; a field that nobody read is a fault.
"""

from collections.abc import Mapping, Sequence
from typing import TypeGuard

from shared.config.mm_config.config_faults import Report, leaves, shown

MERGE_KEYS = ("_delete_", "_scope_")  # mmengine's own: they control merging and registries


class Section:
    """One dict of a config, consumed field by field.

    A field that is missing or of the wrong type is noted in the report, and a stand-in is returned:
    do not rely on any value before `Report.raise_faults`. None counts as missing.

    Args:
        fields: the dict.
        path: its place in the config, "" for the whole config.
        report: collects the faults.
    """

    def __init__(self, fields: Mapping[str, object], path: str, report: Report) -> None:
        self.path = path
        self.report = report
        self._left = {name: fields[name] for name in fields if name not in MERGE_KEYS}
        self._children: list[Section] = []

    def at(self, name: str) -> str:
        """Return the path of a field."""
        return f"{self.path}.{name}" if self.path else name

    def has(self, name: str) -> bool:
        """Return whether a field is present, not None, and not read yet."""
        return self._left.get(name) is not None

    def has_list(self, name: str) -> bool:
        """Return whether a field is present as a list or tuple."""
        return isinstance(self._left.get(name), list | tuple)

    def section(self, name: str, default: Mapping[str, object] | None = None) -> "Section":
        """Read a dict."""
        value = self._take(name, "a dict", default)
        if value is not None and not isinstance(value, Mapping):
            self.fault(name, value, "a dict is expected")
        return self._child(value, self.at(name))

    def optional_section(self, name: str) -> "Section | None":
        """Read a dict that may be missing or None."""
        if self.has(name):
            return self.section(name)
        self._left.pop(name, None)
        return None

    def sections(self, name: str, count: int) -> list["Section"]:
        """Read a list of `count` dicts."""
        wanted = f"a list of {count} dict{'s' if count > 1 else ''}"
        value = self._take(name, wanted)
        items = list(value) if isinstance(value, list | tuple) else []
        if value is not None and [isinstance(item, Mapping) for item in items] != [True] * count:
            self.fault(name, value, f"{wanted} is expected")
            items = []
        items += [None] * (count - len(items))
        return [self._child(item, f"{self.at(name)}[{index}]") for index, item in enumerate(items)]

    def kind(self, *kinds: str, covers: bool = True) -> str:
        """Read `type`, without its registry scope ("mmdet.ResNet"); it must be one of `kinds`.

        Args:
            kinds: the types that are supported.
            covers: any other type is a fault of the whole section, so that its fields are not
                reported as well.
        """
        value = self._left.pop("type", None)
        name = value.rpartition(".")[2] if isinstance(value, str) else value
        if isinstance(name, str) and name in kinds:
            return name
        fault = f" = {shown(value)}: only {_listed(kinds)} is supported"
        if covers:
            self.report.add(self.path, f".type{fault}")
        else:
            self.report.add(self.at("type"), fault)
        return kinds[0]

    def integer(self, name: str, default: int | None = None, *, least: int = 1) -> int:
        """Read a whole number."""
        value = self._take(name, "a whole number", default)
        if value is None:
            return 1
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            self.fault(name, value, f"a whole number, at least {least}, is expected")
            return 1
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """Read a number."""
        value = self._take(name, "a number", default)
        if value is None:
            return 1.0
        if not _is_number(value):
            self.fault(name, value, "a number is expected")
            return 1.0
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """Read True or False."""
        value = self._take(name, "True or False", default)
        if not isinstance(value, bool):
            self.fault(name, value, "True or False is expected")
            return default
        return value

    def numbers(self, name: str, count: int) -> tuple[float, ...]:
        """Read a list of `count` numbers."""
        value = self._take(name, f"{count} numbers")
        items = list(value) if isinstance(value, list | tuple) else []
        if value is not None and [_is_number(item) for item in items] != [True] * count:
            self.fault(name, value, f"{count} numbers are expected")
            items = []
        return tuple(float(item) for item in items) if items else (1.0,) * count

    def integers(self, name: str, count: int) -> tuple[int, ...]:
        """Read a list of `count` whole numbers, at least 1."""
        value = self._left.get(name)
        numbers = self.numbers(name, count)
        if not all(number >= 1 and number.is_integer() for number in numbers):
            self.fault(name, value, f"{count} whole numbers, at least 1, are expected")
            return (1,) * count
        return tuple(int(number) for number in numbers)

    def value(self, name: str) -> object:
        """Read a field as it is; None if it is missing, which is not a fault."""
        return self._left.pop(name, None)

    def expect(self, name: str, *legal: object, of: str = "", required: bool = False) -> None:
        """Read a field that may only have the values `legal`.

        Args:
            name: the field.
            legal: one or more values; lists and tuples compare equal.
            of: path of the field from which the legal values follow.
            required: whether it must be present, because upstream's default is different.
        """
        wanted = _listed([shown(item) for item in legal])
        if name not in self._left:
            if required:
                self.report.add(self.at(name), f": missing, and upstream's default is not {wanted}")
            return
        value = self._left.pop(name)
        if (of and self.report.covers(of)) or _plain(value) in [_plain(item) for item in legal]:
            return
        if of:
            self.fault(name, value, f"disagrees with {of}, which asks for {wanted}")
        else:
            self.fault(name, value, f"only {wanted} is supported")

    def must_be(self, legal: Mapping[str, object]) -> None:
        """Read fields that have a single legal value, which is not upstream's default."""
        for name, value in legal.items():
            self.expect(name, value, required=True)

    def fixed(self, legal: Mapping[str, object]) -> None:
        """Read fields that have a single legal value, which is also upstream's default."""
        for name, value in legal.items():
            self.expect(name, value)

    def skip(self, reasons: Mapping[str, str]) -> None:
        """Ignore fields that change nothing here; each has its reason."""
        for name in reasons:
            self._left.pop(name, None)

    def names_left(self) -> list[str]:
        """Return the fields that were not read yet."""
        return list(self._left)

    def fault(self, name: str, value: object, expected: str) -> None:
        """Note what is wrong with the value of a field."""
        self.report.add(self.at(name), f" = {shown(value)}: {expected}")

    def finish(self) -> None:
        """Report every field, here and below, that was not read."""
        for name, value in self._left.items():
            for path, leaf in leaves(self.at(name), value):
                self.report.add(path, f" = {shown(leaf)}: unknown field")
        for child in self._children:
            child.finish()

    def _take(self, name: str, expected: str, default: object = None) -> object:
        value = self._left.pop(name, None)
        if value is None and default is None:
            self.report.add(self.at(name), f": missing; it must be {expected}")
        return default if value is None else value

    def _child(self, value: object, path: str) -> "Section":
        fields = value if isinstance(value, Mapping) else {}
        self._children.append(Section(fields, path, self.report))
        return self._children[-1]


def _listed(words: Sequence[str]) -> str:
    return " or ".join(words)


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plain(value: object) -> object:
    """Return a value with lists for tuples, so that both compare equal."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return value
