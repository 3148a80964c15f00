"""Which differences between runs are real: a paired bootstrap over scenes.

mAP is no mean over samples, so whole sets of samples are drawn and scored anew. Frames of a scene
resemble each other, so what is drawn, with replacement, is scenes. All runs are scored on the same
draws: what is hard for one detector is mostly hard for all, and cancels in the difference.

R replicates, S samples, M metrics (mAP, NDS).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from stage2_train.comparison.resampled_metrics import resampled_metrics
from stage2_train.comparison.sample_matches import RunMatches

METRICS = ("mAP", "NDS")
REPLICATES = 1000  # 2.5% in each tail are then 25 of them
CONFIDENCE = 0.95
SEED = 0

Scores = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Resampled:
    """The scores of a run.

    Args:
        whole: (M,) on the samples as they are.
        drawn: (R, M) on each draw of scenes.
    """

    whole: Scores
    drawn: Scores


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreDifference:
    """A difference in a metric: of the first minus the second.

    Args:
        first, second: names of runs or groups.
        metric: of `METRICS`.
        value: on the samples as they are.
        low, high: its 95% interval.
    """

    first: str
    second: str
    metric: str
    value: float
    low: float
    high: float

    @property
    def is_real(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0


def resample(
    matches: Mapping[str, RunMatches],
    scenes: Mapping[str, str],
    replicates: int = REPLICATES,
    advance: Callable[[], object] = lambda: None,
) -> dict[str, Resampled]:
    """Score every run on the same draws of scenes.

    Args:
        matches: by name of the run, all of the same samples.
        scenes: scene of each sample, by tokens.
        replicates: R.
        advance: called for every run R + 1 times, after each scoring.
    """
    names = sorted(set(scenes.values()))
    generator = np.random.default_rng(SEED)
    draws = generator.multinomial(len(names), [1 / len(names)] * len(names), size=replicates)
    resampled = {}
    for run, of_run in matches.items():
        places = np.array([names.index(scenes[token]) for token in of_run.tokens])
        scores = []
        for counts in (np.ones(len(names), np.int64), *draws):
            scores.append(resampled_metrics(of_run, counts[places]))
            advance()
        resampled[run] = Resampled(whole=np.array(scores[0]), drawn=np.array(scores[1:]))
    return resampled


def run_differences(resampled: Mapping[str, Resampled]) -> list[ScoreDifference]:
    """Return the differences of all pairs of runs, the better minus the worse by NDS."""
    return _all_pairs(resampled)


def group_differences(
    resampled: Mapping[str, Resampled], groups: Mapping[str, Sequence[str]]
) -> list[ScoreDifference]:
    """Return the differences of all pairs of groups, each the mean over its runs.

    The runs of a group are drawn, too, so that the interval also covers what another seed would
    have changed.

    Args:
        resampled: by name of the run.
        groups: names of runs by name of the group.
    """
    generator = np.random.default_rng(SEED)
    means = {}
    for group, runs in groups.items():
        drawn = np.stack([resampled[run].drawn for run in runs], axis=1)  # (R, runs, M)
        picks = generator.integers(len(runs), size=drawn.shape[:2])
        means[group] = Resampled(
            whole=np.mean([resampled[run].whole for run in runs], axis=0),
            drawn=np.take_along_axis(drawn, picks[..., None], axis=1).mean(axis=1),
        )
    return _all_pairs(means)


def _all_pairs(scores: Mapping[str, Resampled]) -> list[ScoreDifference]:
    ranked = sorted(scores, key=lambda name: -scores[name].whole[METRICS.index("NDS")])
    tails = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    differences = []
    for first, second in combinations(ranked, 2):
        low, high = np.quantile(scores[first].drawn - scores[second].drawn, tails, axis=0)
        whole = scores[first].whole - scores[second].whole
        differences += [
            ScoreDifference(
                first=first,
                second=second,
                metric=metric,
                value=float(whole[i]),
                low=float(low[i]),
                high=float(high[i]),
            )
            for i, metric in enumerate(METRICS)
        ]
    return differences
