"""A run folder says with which code its steps were made, and a run that goes on with other code."""

import logging
from pathlib import Path

import pytest

from cache.reader import CachedFeatures
from shared.code_digest import code_digest
from shared.errors import InterruptedWorkError, TrainingError
from stage2_train.run import code_record
from stage2_train.run.code_record import CODE_RECORD, recorded_code
from stage2_train.run.run_checkpoint import CHECKPOINT
from stage2_train.training.build import train
from stage2_train.training.validation import Validator
from tests.stage2_train.training.test_training import recipe
from tests.stage2_train.training.test_validation import Curve


class Lab:
    """Trains in one folder, each time with code of another digest.

    Args:
        store: to train from.
        out: run folder.
    """

    def __init__(
        self,
        store: Path,
        out: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        self.store, self.out = CachedFeatures(store), out
        self._monkeypatch, self._caplog = monkeypatch, caplog

    def train(
        self, code: str, stop_after: int | None = None, validator: Validator | None = None
    ) -> str:
        """Start or resume the run; return the warnings."""
        self._monkeypatch.setattr(code_record, "code_digest", lambda: code)
        self._caplog.clear()
        train(self.store, recipe(), self.out, stop_after=stop_after, validator=validator)
        records = self._caplog.records
        return "\n".join(r.getMessage() for r in records if r.levelno >= logging.WARNING)

    @property
    def rows(self) -> list[str]:
        return (self.out / CODE_RECORD).read_text().split()


@pytest.fixture
def lab(
    tiny_store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> Lab:
    return Lab(tiny_store, tmp_path / "run", monkeypatch, caplog)


def test_a_run_records_the_code_that_is_running(tiny_store: Path, tmp_path: Path) -> None:
    train(CachedFeatures(tiny_store), recipe(), tmp_path / "run", stop_after=1)
    assert (tmp_path / "run" / CODE_RECORD).read_text().split() == [
        "step,code",
        f"1,{code_digest()}",
    ]
    assert recorded_code(tmp_path / "run") == code_digest()


def test_every_start_is_recorded_and_changed_code_is_a_warning(lab: Lab) -> None:
    assert lab.train("aaaa", stop_after=2) == ""
    assert lab.train("aaaa", stop_after=4) == ""
    assert recorded_code(lab.out) == "aaaa"

    warning = lab.train("bbbb", stop_after=5)

    assert f"{lab.out} goes on under changed code (bbbb, its last start had aaaa)" in warning
    assert "4 steps" in warning
    assert "results belong to both" in warning
    assert lab.train("bbbb") == ""
    assert lab.rows == ["step,code", "1,aaaa", "3,aaaa", "5,bbbb", "6,bbbb"]
    assert recorded_code(lab.out) == "aaaa then bbbb"


def test_code_whose_steps_were_not_saved_is_forgotten(lab: Lab) -> None:
    lab.train("aaaa", stop_after=2)
    saved = (lab.out / CHECKPOINT).read_bytes()
    lab.train("bbbb", stop_after=3)
    (lab.out / CHECKPOINT).write_bytes(saved)  # as if killed before it saved

    assert lab.train("aaaa") == ""

    assert recorded_code(lab.out) == "aaaa"
    (lab.out / CHECKPOINT).unlink()
    assert lab.train("cccc") == ""
    assert recorded_code(lab.out) == "cccc"


def test_a_finished_run_that_is_started_again_stays_as_it_is(lab: Lab) -> None:
    lab.train("aaaa")
    assert lab.train("bbbb") == ""
    assert recorded_code(lab.out) == "aaaa"


def test_the_code_that_only_scores_the_best_detector_is_recorded_once(lab: Lab) -> None:
    """Killed by a signal in the validation that ends the run, then started again and again."""
    curve = Curve((1.0, None, None), stop_at=1)
    with pytest.raises(InterruptedWorkError):
        lab.train("aaaa", validator=curve)
    assert curve.is_whole == [False]

    assert "results belong to both" in lab.train("bbbb", validator=curve)
    assert curve.is_whole == [False, True]
    assert lab.train("cccc", validator=curve) == ""

    assert lab.rows == ["step,code", "1,aaaa", "7,bbbb"]


def test_a_run_of_before_code_was_recorded_goes_on_silently(lab: Lab) -> None:
    lab.train("aaaa", stop_after=3)
    (lab.out / CODE_RECORD).unlink()
    assert recorded_code(lab.out) == "unknown"

    assert lab.train("bbbb") == ""

    assert lab.rows == ["step,code", "4,bbbb"]
    assert recorded_code(lab.out) == "unknown then bbbb"


def test_a_damaged_record_is_one_message_that_says_what_to_do(lab: Lab) -> None:
    lab.train("aaaa", stop_after=3)
    (lab.out / CODE_RECORD).write_text("torn\n1\n")

    with pytest.raises(TrainingError, match=r"code\.csv is damaged .* Move it away"):
        lab.train("aaaa")

    (lab.out / CODE_RECORD).rename(lab.out / "away")
    assert lab.train("aaaa") == ""
