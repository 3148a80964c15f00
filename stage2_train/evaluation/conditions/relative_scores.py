"""Scores under conditions relative to clean samples (RA) and to another detector (RRA).

M is a metric, here NDS, c a family of conditions, s a severity.

    RA(c, s) = M(c, s) / M(clean)       RA(c) = mean over s      mRA = mean over c
    RRA(c) = sum over s of M(c, s) / sum over s of M of the baseline - 1      mRRA = mean over c

RA is relative and RRA absolute, so that they may rank detectors differently. RRA is a fraction
here; tables print it in percent, as published ones do.

Source: MultiCorrupt (ika-rwth-aachen/MultiCorrupt), README, "Metrics".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from stage2_train.evaluation.conditions.judged_condition import JudgedCondition

SEVERITIES = (1, 2, 3)  # a family counts in mRA and mRRA when it has exactly these

Numbers = Mapping[tuple[str, int | None], float]  # NDS by `JudgedCondition.key`


@dataclass(frozen=True, kw_only=True, slots=True)
class FamilyScores:
    """A family that has severities.

    Args:
        family: its name.
        severities: evaluated ones, ascending.
        ra: mean over them; None if nothing is detected on clean samples.
        rra: over them; None without a baseline, or where that lacks one of them.
    """

    family: str
    severities: tuple[int, ...]
    ra: float | None
    rra: float | None

    @property
    def is_counted(self) -> bool:
        """Whether it is part of mRA and mRRA."""
        return self.severities == SEVERITIES


@dataclass(frozen=True, kw_only=True, slots=True)
class RelativeScores:
    """All scores of one detector.

    Args:
        ra: by name of the condition; None as in `FamilyScores`.
        rra: the same against the baseline's NDS under this condition alone.
        families: those with severities.
        mra: over the families that count; None if there are none.
        mrra: the same; None also if the baseline lacks one of them.
    """

    ra: Mapping[str, float | None]
    rra: Mapping[str, float | None]
    families: tuple[FamilyScores, ...]
    mra: float | None
    mrra: float | None


def relative_scores(
    conditions: Sequence[JudgedCondition], numbers: Numbers, baseline: Numbers | None = None
) -> RelativeScores:
    """Compute the relative scores of a detector.

    Args:
        conditions: the clean samples first.
        numbers: NDS of all of them.
        baseline: NDS of another detector, perhaps not under all of them.
    """
    clean = numbers[conditions[0].key]
    baseline = baseline or {}
    families: dict[str, list[JudgedCondition]] = {}
    for condition in conditions:
        if condition.severity is not None:
            families.setdefault(condition.family, []).append(condition)
    scores = tuple(_family(members, numbers, clean, baseline) for members in families.values())
    counted = [family for family in scores if family.is_counted]
    return RelativeScores(
        ra={c.name: _ratio(numbers[c.key], clean) for c in conditions},
        rra={c.name: _excess([c], numbers, baseline) for c in conditions},
        families=scores,
        mra=_mean([family.ra for family in counted]),
        mrra=_mean([family.rra for family in counted]),
    )


def _family(
    members: Sequence[JudgedCondition], numbers: Numbers, clean: float, baseline: Numbers
) -> FamilyScores:
    severities = sorted(c.severity for c in members if c.severity is not None)
    return FamilyScores(
        family=members[0].family,
        severities=tuple(severities),
        ra=_mean([_ratio(numbers[c.key], clean) for c in members]),
        rra=_excess(members, numbers, baseline),
    )


def _ratio(value: float, reference: float) -> float | None:
    return value / reference if reference else None


def _excess(
    conditions: Sequence[JudgedCondition], numbers: Numbers, baseline: Numbers
) -> float | None:
    """Return by how much the sum over conditions exceeds the baseline's, None if that lacks one."""
    if any(c.key not in baseline for c in conditions):
        return None
    ratio = _ratio(
        sum(numbers[c.key] for c in conditions), sum(baseline[c.key] for c in conditions)
    )
    return None if ratio is None else ratio - 1


def _mean(values: Sequence[float | None]) -> float | None:
    """Return the mean; None of nothing, and where a value is not defined."""
    defined = [value for value in values if value is not None]
    return fmean(defined) if defined and len(defined) == len(values) else None
