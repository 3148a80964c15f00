"""A table of somebody else's numbers is read strictly."""

from pathlib import Path

import pytest

from shared.errors import ConfigError
from stage2_train.evaluation.conditions.judged_condition import CLEAN_SAMPLES, JudgedCondition
from stage2_train.evaluation.conditions.published_baseline import read_published_baseline
from stage2_train.evaluation.conditions.score_baseline import ScoreBaseline


def written(folder: Path, text: str) -> Path:
    file = folder / "published.csv"
    file.write_text(text, encoding="utf-8")
    return file


def test_numbers_are_read_by_family_and_severity(tmp_path: Path) -> None:
    text = "\ufefffamily, severity,NDS\nclean,,0.7\nbeams,1,0.6\n".replace(", ", ",")
    assert read_published_baseline(written(tmp_path, text)) == {
        ("clean", None): 0.7,
        ("beams", 1): 0.6,
    }


def test_the_table_of_an_evaluation_can_be_a_baseline(tmp_path: Path) -> None:
    text = "condition,family,severity,mAP,NDS\nfov-60,fov,,0.1,0.5\nbeams-4,beams,3,0.1,0.25\n"
    assert read_published_baseline(written(tmp_path, text)) == {
        ("fov-60", None): 0.5,
        ("beams", 3): 0.25,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("family,NDS\nbeams,0.5\n", r"has no column severity; expected family,severity,NDS"),
        ("", r"has no column family, severity, NDS"),
        ("family,severity,NDS\n", r"has no row"),
        ("family,severity,NDS\nbeams,1,68.3\n", r"line 2: NDS must be .* from 0 to 1, it is '68"),
        ("family,severity,NDS\nbeams,1,nan\n", r"line 2: NDS must be .* it is 'nan'"),
        ("family,severity,NDS\nbeams,1\n", r"line 2: NDS must be .* it is ''"),
        ("family,severity,NDS\nbeams,hard,0.5\n", r"line 2: expected a family and a whole number"),
        ("family,severity,NDS\n,1,0.5\n", r"line 2: expected a family"),
        ("family,severity,NDS\nb,1,.5\nb,1,.4\n", r"line 3: severity 1 of b is there twice"),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"published\.csv.*{message}"):
        read_published_baseline(written(tmp_path, text))


def test_a_baseline_of_other_conditions_is_refused() -> None:
    baseline = ScoreBaseline(name="p.csv", numbers={("fog", 1): 0.5, ("clean", None): 0.7})
    fog = JudgedCondition(name="fog-1", family="fog", severity=1)
    beams = JudgedCondition(name="beams-4", family="beams", severity=3)

    baseline.require_common([CLEAN_SAMPLES, beams, fog])
    with pytest.raises(ConfigError, match=r"p\.csv has none .* \(beams 3\); it has fog 1, clean\."):
        baseline.require_common([CLEAN_SAMPLES, beams])
