"""The folder of an evaluation says what was evaluated, and by which code."""

import json
import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest

import stage2_train.evaluation.evaluation_folder as folder_module
from shared.code_digest import code_digest
from stage2_train.evaluation.evaluation_folder import RECORD, RESULTS, claim_folder

DIGESTS = {"features": "a" * 64, "weights": "b" * 64}


def claim(folder: Path) -> dict[str, object]:
    """Claim a folder, leave a result in it, and return its record."""
    claim_folder(folder, "runs/a on val.zarr", DIGESTS, "c" * 64)
    (folder / RESULTS).write_text("{}")
    record: dict[str, object] = json.loads((folder / RECORD).read_text())
    return record


def test_the_code_that_evaluates_is_recorded(tmp_path: Path) -> None:
    assert claim(tmp_path)["code"] == code_digest()


def test_the_time_is_recorded_anew_by_each_evaluation(tmp_path: Path) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    record = claim(tmp_path)
    (tmp_path / RECORD).write_text(json.dumps({**record, "time": "2000-01-01T00:00:00+00:00"}))
    time = datetime.fromisoformat(str(claim(tmp_path)["time"]))
    assert before <= time <= datetime.now(UTC)


def test_an_evaluation_by_other_code_is_replaced_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(folder_module, "code_digest", lambda: "0123456789ab")
        claim(tmp_path)
        claim(tmp_path)
    assert not caplog.messages
    assert claim(tmp_path)["code"] == code_digest()
    (warning,) = caplog.messages
    assert f"{tmp_path} holds an evaluation by other code (0123456789ab, now" in warning
    assert "choose another --out" in warning
    assert caplog.records[0].levelno == logging.WARNING


def test_an_evaluation_from_before_code_was_recorded_can_be_repeated(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record = claim(tmp_path)
    del record["code"]
    (tmp_path / RECORD).write_text(json.dumps(record))
    claim(tmp_path)
    assert f"by other code (unknown, now {code_digest()})" in caplog.text


def test_a_record_without_results_is_of_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(folder_module, "code_digest", lambda: "0123456789ab")
        claim(tmp_path)
    (tmp_path / RESULTS).unlink()  # as if it had been interrupted
    claim(tmp_path)
    assert not caplog.messages
