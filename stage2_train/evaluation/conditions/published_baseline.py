"""A baseline that somebody else has evaluated: NDS by family and severity, from a CSV file.

    family,severity,NDS
    clean,,0.7290
    beams-even,1,0.6826

NDS is from 0 to 1. A condition without severities is named in `family`, with no severity; in a
table that also has a column `condition`, such as the conditions.csv of an evaluation, it is named
there. Columns of other names are not read.
"""

import csv
from pathlib import Path

from shared.errors import ConfigError

COLUMNS = ("family", "severity", "NDS")
NUMBERS_EXAMPLE = "family,severity,NDS, then for example beams-even,1,0.6826"


def read_published_baseline(file: Path) -> dict[tuple[str, int | None], float]:
    """Return NDS by `JudgedCondition.key`.

    Raises:
        ConfigError: if the file is no such table, names a condition twice, or has no row.
        OSError: if it cannot be read.
    """
    numbers: dict[tuple[str, int | None], float] = {}
    try:
        with file.open(newline="", encoding="utf-8-sig") as handle:  # spreadsheets write a BOM
            table = csv.DictReader(handle)
            missing = [name for name in COLUMNS if name not in (table.fieldnames or ())]
            if missing:
                raise ConfigError(
                    f"{file} has no column {', '.join(missing)}; expected {NUMBERS_EXAMPLE}"
                )
            for row in table:
                key, nds = _entry(row, f"{file}, line {table.line_num}")
                if key in numbers:
                    raise ConfigError(
                        f"{file}, line {table.line_num}: {_named(key)} is there twice; keep one row"
                    )
                numbers[key] = nds
    except (csv.Error, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is no CSV text ({error}); expected {NUMBERS_EXAMPLE}") from error
    if not numbers:
        raise ConfigError(f"{file} has no row; expected {NUMBERS_EXAMPLE}")
    return numbers


def _entry(row: dict[str, str | None], where: str) -> tuple[tuple[str, int | None], float]:
    family, severity, nds = ((row[name] or "").strip() for name in COLUMNS)
    name = (row.get("condition") or family).strip()
    if not family or (severity and not severity.isdecimal()):
        raise ConfigError(
            f"{where}: expected a family and a whole number, or nothing, as its severity, got "
            f"{family!r} and {severity!r}"
        )
    try:
        value = float(nds)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ConfigError(f"{where}: NDS must be a number from 0 to 1, it is {nds!r}")
    return ((family, int(severity)) if severity else (name, None)), value


def _named(key: tuple[str, int | None]) -> str:
    family, severity = key
    return family if severity is None else f"severity {severity} of {family}"
