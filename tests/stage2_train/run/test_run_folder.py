"""A run folder keeps the right checkpoints, and logs with each step once."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cache.reader import CachedFeatures
from stage2_train.run import run_folder
from stage2_train.run.run_files import last_row, rows_before
from stage2_train.run.run_folder import RunFolder
from stage2_train.training.build import train
from stage2_train.training.queued_step import QueuedStep, StepResult
from tests.stage2_train.training.test_training import recipe


@pytest.fixture(scope="module")
def store(tiny_store: Path) -> CachedFeatures:
    return CachedFeatures(tiny_store)


def step_of(file: Path) -> int:
    step: int = torch.load(file, weights_only=True)["step"]
    return step


def kept_steps(out: Path) -> list[int]:
    return sorted(step_of(file) for file in out.glob("checkpoint_step_*.pt"))


def columns(file: Path) -> dict[str, list[float]]:
    with file.open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    return {name: [float(row[name]) for row in rows if row[name]] for name in rows[0]}


def test_the_last_checkpoints_stay(store: CachedFeatures, tmp_path: Path) -> None:
    train(store, recipe(steps=9, checkpoint_every=2, keep_last=2), tmp_path / "run")

    assert kept_steps(tmp_path / "run") == [8, 9]
    assert step_of(tmp_path / "run" / "checkpoint.pt") == 9


def test_copies_that_a_user_made_beside_the_checkpoints_are_left_alone(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    copies = [tmp_path / f"checkpoint_step_{name}.pt" for name in ("good", "copy_1")]
    for copy in copies:
        copy.touch()

    for step in (1, 2, 3):
        folder.save({"step": step}, is_best=False, keep_last=2)

    assert all(copy.exists() for copy in copies)
    assert not (tmp_path / "checkpoint_step_1.pt").exists()
    assert (tmp_path / "checkpoint_step_2.pt").exists()


def test_a_checkpoint_that_is_only_for_resuming_is_not_kept(
    store: CachedFeatures, tmp_path: Path
) -> None:
    train(store, recipe(checkpoint_every=2), tmp_path / "run", stop_after=3)

    assert kept_steps(tmp_path / "run") == [2]
    assert step_of(tmp_path / "run" / "checkpoint.pt") == 3


def test_keeping_a_single_checkpoint_keeps_no_other_file(
    store: CachedFeatures, tmp_path: Path
) -> None:
    train(store, recipe(checkpoint_every=2, keep_last=1), tmp_path / "run")

    assert kept_steps(tmp_path / "run") == []


def test_the_best_is_that_of_the_lowest_mean_loss_also_in_a_resumed_run(
    store: CachedFeatures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = [9.0, 9.0, 1.0, 5.0, 4.0, 4.0]  # means of two: 9, 3, 4
    honest = QueuedStep.read

    def told(self: QueuedStep) -> StepResult:
        return replace(honest(self), loss=losses[self.step])

    monkeypatch.setattr(QueuedStep, "read", told)

    train(store, recipe(checkpoint_every=2), tmp_path / "run", stop_after=3)
    train(store, recipe(checkpoint_every=2), tmp_path / "run")

    assert step_of(tmp_path / "run" / "best.pt") == 4


@pytest.fixture(scope="module")
def resumed(store: CachedFeatures, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose process died after step 5, with its last checkpoint of step 2."""
    out = tmp_path_factory.mktemp("resumed") / "run"
    train(store, recipe(), out, stop_after=2)
    saved = shutil.copy(out / "checkpoint.pt", out.parent)
    train(store, recipe(), out, stop_after=5)
    shutil.copy(saved, out / "checkpoint.pt")
    train(store, recipe(), out)
    return out


def test_tensorboard_shows_every_step_of_a_resumed_run_once(resumed: Path) -> None:
    board = EventAccumulator(str(resumed / "tensorboard"))
    board.Reload()

    log, timing = columns(resumed / "log.csv"), columns(resumed / "timing.csv")
    assert timing["peak_gpu_mb"] == []  # on a CPU
    assert {*log, *timing} - {"step", "peak_gpu_mb"} == set(board.Tags()["scalars"])
    for name in ("loss", "grad_norm/pts_bbox_head", "lr/x1", "d0.dn_loss_bbox"):
        events = board.Scalars(name)
        assert [event.step for event in events] == [1, 2, 3, 4, 5, 6]
        assert [event.value for event in events] == pytest.approx(log[name])


def test_the_timing_of_a_step_adds_up(resumed: Path) -> None:
    timing = columns(resumed / "timing.csv")

    assert timing["step"] == [1, 2, 3, 4, 5, 6]
    pieces = ("data", "forward", "backward", "update")
    for index, speed in enumerate(timing["samples_per_second"]):
        seconds = {name: timing[f"seconds/{name}"][index] for name in pieces}
        assert min(seconds.values()) > 0
        assert speed == pytest.approx(2 / sum(seconds.values()))
        assert timing["share_waiting_for_data"][index] == pytest.approx(
            seconds["data"] / sum(seconds.values())
        )


def test_rows_that_a_resumed_run_repeats_are_dropped(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.log("log.csv", [{"step": 1, "loss": 5.0}, {"step": 2, "loss": 6.0}])

    folder.log("log.csv", [{"step": 2, "loss": 7.0, "new": 1.0}])

    assert (folder.path / "log.csv").read_text().split() == ["step,loss,new", "1,5.0,", "2,7.0,1.0"]


def test_a_log_is_read_once_in_a_process_and_again_for_new_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    RunFolder(tmp_path / "run").log("log.csv", [{"step": 1, "loss": 5.0}])
    reads, file = [], tmp_path / "run" / "log.csv"
    monkeypatch.setattr(run_folder, "rows_before", lambda *of: reads.append(of) or rows_before(*of))
    folder = RunFolder(tmp_path / "run")
    folder.log("log.csv", [{"step": 2, "loss": 6.0}])
    folder.log("log.csv", [{"step": 3, "loss": 7.0}, {"step": 4, "loss": None}])
    assert len(reads) == 1
    assert file.read_text().split() == ["step,loss", "1,5.0", "2,6.0", "3,7.0", "4,"]
    folder.log("log.csv", [{"step": 5, "new": 1.0}])
    folder.log("log.csv", [{"step": 6, "new": 2.0}])
    assert len(reads) == 2
    lines = ["step,loss,new", "1,5.0,", "2,6.0,", "3,7.0,", "4,,", "5,,1.0", "6,,2.0"]
    assert file.read_text().split() == lines
    file.rename(tmp_path / "moved_away.csv")
    folder.log("log.csv", [{"step": 7, "loss": 8.0}])
    assert file.read_text().split() == ["step,loss", "7,8.0"]


def test_the_last_row_of_a_long_log_is_known_without_the_others(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.log("log.csv", [{"step": step, "loss": step / 7} for step in range(1, 20_001)])
    last = {"step": "20000", "loss": str(20_000 / 7)}
    assert last_row(folder.path / "log.csv") == last
    folder.log("short.csv", [{"step": 1, "loss": 2.0}])
    assert last_row(folder.path / "short.csv") == {"step": "1", "loss": "2.0"}
