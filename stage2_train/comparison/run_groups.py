"""What differs between runs, and which runs repeat each other with another seed."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stage2_train.comparison.compared_run import ComparedRun
from stage2_train.run.run_files import OVERRIDES

SEED = "recipe.seed"
START = "starting weights"  # their digest; seeded weights differ with the seed
NAME = "recipe.name"
DELTA = "conditions."  # before a condition's name: the digest of the delta store trained with
ABSENT = "-"
SHORT_DIGEST = 10
LONGEST_NAME = 60  # of a group; a longer one would make tables unreadable


@dataclass(frozen=True, kw_only=True, slots=True)
class RunGroup:
    """Runs that differ in their seed and nothing else.

    Args:
        name: what sets it apart from the others.
        runs: one or more.
    """

    name: str
    runs: tuple[ComparedRun, ...]


def fields_that_differ(runs: Sequence[ComparedRun]) -> list[str]:
    """Return the fields of the configs that are not the same in all runs, in their order.

    Which runs train under a condition is in their recipe; of its delta store only counts whether
    those runs have the same.
    """
    differing = []
    for field in dict.fromkeys(field for run in runs for field in run.config):
        if field == OVERRIDES:  # what they have changed is in the recipe
            continue
        having = [run for run in runs if field in run.config or not field.startswith(DELTA)]
        if len({_text(run, field) for run in having}) > 1:
            differing.append(field)
    return differing


def shown_value(run: ComparedRun, field: str) -> str:
    """Return the value of a field for a table; digests are cut."""
    value: Any = run.config.get(field, ABSENT)
    text = value if isinstance(value, str) else json.dumps(value)
    is_digest = len(text) == 64 and set(text) <= set("0123456789abcdef")
    return text[:SHORT_DIGEST] if is_digest else text


def short_field(field: str) -> str:
    """Return a field as users write it on the command line, or what it is the digest of."""
    if field.startswith(DELTA):
        return f"delta of {field.removeprefix(DELTA)}"
    return field.removeprefix("recipe.")


def seed_groups(runs: Sequence[ComparedRun]) -> list[RunGroup]:
    """Group the runs of the same code that differ only in their seed, and what follows from it.

    Runs of one seed that start from different weights start from different checkpoints, so these,
    and runs like them with other seeds, are not taken for repetitions.
    """
    fields = [field for field in fields_that_differ(runs) if field not in (SEED, START)]
    alike: dict[tuple[str, ...], list[ComparedRun]] = defaultdict(list)
    for run in runs:
        alike[tuple(_text(run, field) for field in fields)].append(run)
    groups = []
    for members in alike.values():
        starts = {(run.config.get(SEED), run.config.get(START)) for run in members}
        seeds = {seed for seed, _ in starts}
        if len(starts) > len(seeds):
            groups += [RunGroup(name=run.name, runs=(run,)) for run in members]
        else:
            names = [group[0].config.get(NAME) for group in alike.values()]
            told_by = [NAME] if names.count(members[0].config.get(NAME)) == 1 else fields
            groups.append(RunGroup(name=_group_name(members, told_by), runs=tuple(members)))
    return groups


def _group_name(members: Sequence[ComparedRun], fields: Sequence[str]) -> str:
    if len(members) == 1:
        return members[0].name
    first = members[0]
    values = [
        shown_value(first, field)
        if field == NAME
        else f"{short_field(field)}={shown_value(first, field)}"
        for field in fields
    ]
    name = ", ".join(values) or str(first.config.get(NAME, first.name))
    return name if len(name) <= LONGEST_NAME else f"{first.name} and {len(members) - 1} more"


def _text(run: ComparedRun, field: str) -> str:
    return json.dumps(run.config[field], sort_keys=True) if field in run.config else ""
