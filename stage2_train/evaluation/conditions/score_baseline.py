"""What a detector is compared with under the same conditions: a second detector, or a table."""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.errors import ConfigError
from shared.model.detector import CmtDetector
from stage2_train.evaluation.conditions.judged_condition import JudgedCondition
from stage2_train.evaluation.conditions.relative_scores import Numbers


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreBaseline:
    """NDS to compare with.

    Args:
        name: of the run, or of the file.
        numbers: by `JudgedCondition.key`.
        is_published: from a file, so perhaps of other samples or other definitions.
    """

    name: str
    numbers: Numbers
    is_published: bool = False

    def require_common(self, conditions: Sequence[JudgedCondition]) -> None:
        """Check, before anything is evaluated, that there is something to compare.

        Raises:
            ConfigError: if not.
        """
        impaired = conditions[1:]
        if not any(condition.key in self.numbers for condition in impaired):
            own = ", ".join(sorted({_in_words(condition.key) for condition in impaired}))
            known = ", ".join(map(_in_words, self.numbers))
            raise ConfigError(
                f"{self.name} has none of the conditions of this evaluation ({own}); it has "
                f"{known}. Call its families as the delta stores do"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class BaselineDetector:
    """A second detector, to be evaluated under the same conditions.

    Args:
        name: of its run or checkpoint.
        detector: of `load_detector`.
    """

    name: str
    detector: CmtDetector


def _in_words(key: tuple[str, int | None]) -> str:
    return key[0] if key[1] is None else f"{key[0]} {key[1]}"
