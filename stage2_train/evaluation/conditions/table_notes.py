"""What a reader has to know of a table of conditions: what counts, and what is missing."""

from collections.abc import Iterator, Sequence

from stage2_train.evaluation.conditions.judging import ConditionResult
from stage2_train.evaluation.conditions.relative_scores import SEVERITIES, RelativeScores
from stage2_train.evaluation.conditions.score_baseline import ScoreBaseline

ALL = ", ".join(map(str, SEVERITIES))


def table_notes(
    results: Sequence[ConditionResult], scores: RelativeScores, baseline: ScoreBaseline | None
) -> list[str]:
    """Return sentences, the clean samples being the first of the results."""
    return [
        *_of_means(results, scores),
        *(() if baseline is None else _of_baseline(results, scores, baseline)),
        *_of_equal(results),
    ]


def _of_means(results: Sequence[ConditionResult], scores: RelativeScores) -> Iterator[str]:
    yield "RA is NDS over that of the clean samples; RA of a family is its mean over severities."
    if scores.ra[results[0].condition.name] is None:
        yield "Nothing is detected on the clean samples (NDS 0), so no RA is defined."
    counted = [family.family for family in scores.families if family.is_counted]
    partial = [
        f"{family.family} (at {', '.join(map(str, family.severities))})"
        for family in scores.families
        if not family.is_counted
    ]
    single = [r.condition.name for r in results[1:] if r.condition.severity is None]
    if scores.families:
        of = f"mRA is the mean over the families at severities {ALL}: {', '.join(counted)}."
        yield of if counted else f"No family is evaluated at severities {ALL}: there is no mRA."
    if partial:
        named = ", ".join(partial)
        yield f"Not in the mean, which takes exactly severities {ALL}: {named}."
    if single:
        yield f"Not in the mean, because they have no severities: {', '.join(single)}."


def _of_baseline(
    results: Sequence[ConditionResult], scores: RelativeScores, baseline: ScoreBaseline
) -> Iterator[str]:
    yield (
        "RRA is the sum of NDS over the baseline's, minus 1, in percent; of a family, over its "
        "severities; mRRA is the mean over the same families as mRA."
    )
    lacking = [r.condition.name for r in results if r.condition.key not in baseline.numbers]
    if lacking:
        yield f"The baseline has no number for {', '.join(lacking)}."
    without = [f.family for f in scores.families if f.is_counted and f.rra is None]
    if without:
        yield f"So mRRA is not defined; it lacks {', '.join(without)}."
    if baseline.is_published:
        yield (
            "The baseline's numbers are from a file: they compare only if they are of the same "
            "samples and the same definitions of the conditions."
        )


def _of_equal(results: Sequence[ConditionResult]) -> Iterator[str]:
    equal = [result.condition.name for result in results if result.equals_clean]
    if equal:
        yield (
            "Every detection is that of the clean samples, bit for bit, so this detector does not "
            f"read what changes under {', '.join(equal)}."
        )
