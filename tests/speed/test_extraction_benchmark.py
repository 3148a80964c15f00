"""The benchmark of extraction measures what a user gets, in one process or several."""

import contextlib
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks.speed.extraction import benchmark_frames as frames
from benchmarks.speed.extraction import extraction_stages, worker_processes
from benchmarks.speed.extraction.__main__ import PAGE, options, run
from benchmarks.speed.extraction.benchmark_frames import benchmark_frames, renamed_records
from benchmarks.speed.extraction.end_to_end import CPU_SHARD_ROWS, disk_mb_per_s, empty_store
from benchmarks.speed.extraction.extraction_goal import goal_in_words, goal_of
from benchmarks.speed.extraction.extraction_table import MARKERS, in_page, table
from benchmarks.speed.extraction.thread_samples import QUEUES
from benchmarks.speed.extraction.timed_extraction import WorkerReport, WorkerTask
from benchmarks.speed.extraction.worker_processes import joint_figures, run_workers
from benchmarks.speed.gpu.cases import NOT_MEASURED, Cases
from shared.config.preset import MAX_SWEEPS
from shared.config.preset_catalogue import r50_800x320
from shared.synthetic_nuscenes import SyntheticConfig
from stage1_extract.extraction.fill_store import planned_batches
from stage1_extract.nuscenes.records import SampleRecord

SAMPLES = 8  # four shards, two of each process
NOWHERE = Path("no real frames")


@pytest.fixture(scope="module")
def folder(synthetic_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that has synthetic frames already, coarse ones."""
    folder = tmp_path_factory.mktemp("benchmark")
    (folder / "nuscenes").symlink_to(synthetic_root)
    return folder


@pytest.fixture(scope="module")
def records(folder: Path) -> list[SampleRecord]:
    source, records = benchmark_frames(folder, NOWHERE, SAMPLES)
    assert source == "synthetic"
    return records


@pytest.fixture(scope="module")
def document(folder: Path, records: list[SampleRecord]) -> dict[str, Any]:
    """A rehearsal with two processes, each with a loader process."""
    words = ["--quick", "--preset", "tiny", "--samples", str(SAMPLES), "--passes", "1"]
    words += ["--processes", "2", "--workers", "2", "--real", str(NOWHERE)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extraction_stages, "WRITING_PASSES", 1)
        return run(options().parse_args(words), folder, Cases(folder / "cases.jsonl", 600))


def test_frames_are_written_where_there_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coarse = partial(SyntheticConfig, azimuth_steps=8, render_stride_px=100)
    monkeypatch.setattr(frames, "SyntheticConfig", coarse)
    monkeypatch.setattr(frames, "FRAMES", 1)
    source, (first, second) = benchmark_frames(tmp_path, NOWHERE, 2)
    assert source == "synthetic"
    assert first.lidar_file != second.lidar_file
    assert first.lidar_file.resolve() == second.lidar_file.resolve()
    assert first.lidar_file.resolve().is_relative_to(tmp_path / "nuscenes")


def test_every_sample_has_ten_sweeps_and_files_of_its_own(records: list[SampleRecord]) -> None:
    files = set[Path]()
    for record in records:
        assert len(record.sweeps) == MAX_SWEEPS
        lags = [float(record.lag_s(sweep)) for sweep in record.sweeps]
        assert lags == sorted(set(lags))
        assert 0 < lags[0] < lags[-1] < 1.5
        files.update(record.keyframe_files, (sweep.file for sweep in record.sweeps))
        assert all(record.relative(file) for file in record.keyframe_files)
    assert len(files) == SAMPLES * (7 + MAX_SWEEPS)
    assert all(file.is_file() for file in files)


def workers_of(folder: Path) -> list[Path]:
    """Return the running processes whose task names this folder."""
    running = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just ended
            if str(folder).encode() in line.read_bytes():
                running.append(line)
    return running


def test_processes_on_one_device_are_measured_together(
    document: dict[str, Any], folder: Path
) -> None:
    (row,) = document["whole"]
    assert NOT_MEASURED not in row
    assert (row["processes"], row["workers"]) == (2, 2)
    assert row["padded_share"] == 0  # so all samples were computed, each once
    assert row["cpu_s"] > 0
    assert row["wall_s"] > 0
    assert 0 < row["disk_mb"] < document["row_bytes"] / 1e6
    assert document["limits"]["limit"] in document["limits"]["samples_per_s"]
    assert document["memory"] == []  # of a rehearsal
    assert document["left_out"] == []
    assert workers_of(folder) == []


def test_it_is_known_where_the_thread_was_that_queues_work(document: dict[str, Any]) -> None:
    queueing = document["whole"][0]["queueing"]
    assert sum(queueing["thread_shares"].values()) == pytest.approx(1)
    assert queueing["thread_shares"][QUEUES] > 0
    assert queueing["queueing_ms"] > 0
    assert queueing["thread_cpu_ms"] > 0
    assert all("." in name for name in queueing["busiest"])
    assert "queueing a batch, ms" in table(document)


def test_what_decides_about_the_goal_is_written_down_first(
    folder: Path, records: list[SampleRecord]
) -> None:
    words = ["--quick", "--preset", "tiny", "--samples", str(SAMPLES), "--passes", "1"]
    words += ["--workers", "0", "--real", str(NOWHERE), "--json", str(folder / "kept.json")]
    cases = Cases(folder / "few.jsonl", 600)
    cases.longest_s = 1e9  # there is time for nothing
    run(options().parse_args(words), folder, cases)
    kept = json.loads((folder / "kept.json").read_text())
    assert [row["what"] for row in kept["left_out"]] == ["cores", "stages", "disk"]
    assert NOT_MEASURED in kept["whole"][0]
    assert kept["goal"] is None
    assert "- left out: stages: not measured" in table(kept)


def a_run(rate: float, alone_per_s: float, batch_size: int = 8) -> dict[str, Any]:
    return {
        "processes": 1,
        "workers": 16,
        "batch_size": batch_size,
        "steady_per_s": rate,
        "backbones_wall_s": 1 / alone_per_s,
    }


@pytest.mark.parametrize(
    ("rate", "alone", "cores", "limit", "share", "is_met"),
    [
        (101, 215, 140, "all cores, loading and encoding", 101 / 140, True),
        (95, 215, 100, "all cores, loading and encoding", 0.95, True),
        (95, 105, 140, "backbones alone", 95 / 105, True),
        (89, 215, 100, "all cores, loading and encoding", 0.89, False),
        (89, 100, None, "backbones alone", 0.89, None),
        (95, 100, None, "backbones alone", 0.95, None),
    ],
)
def test_the_goal_on_a_gpu(
    rate: float, alone: float, cores: float | None, limit: str, share: float, is_met: bool | None
) -> None:
    slower = a_run(rate - 10, alone, batch_size=4)
    goal = goal_of([slower, a_run(rate, alone), {NOT_MEASURED: "no time"}], cores, "cuda")
    assert goal is not None
    assert (goal["limit"], goal["measured_per_s"], goal["is_met"]) == (limit, rate, is_met)
    assert goal["share"] == pytest.approx(share)
    assert goal["run"]["batch_size"] == 8
    words = {True: "met", False: "missed", None: "not decided"}[is_met]
    assert f": {words}.** Measured {rate}/s (processes 1" in goal_in_words(goal)


def test_the_goal_on_a_cpu_is_the_time_of_the_backbones() -> None:
    for rate, is_met in ((0.92, True), (0.90, False)):
        goal = goal_of([a_run(rate, 1.0)], 30.0, "cpu")
        assert goal is not None
        assert goal["is_met"] is is_met
    assert goal_of([{"steady_per_s": None}], 30.0, "cpu") is None


def test_the_tables_fit_into_the_page(document: dict[str, Any], folder: Path) -> None:
    page = PAGE.read_text()
    for device, marker in MARKERS.items():
        new = in_page(page, document | {"device": device})
        assert table(document) in new
        assert new.startswith(page[: page.index(marker.format("begin"))])
        assert new.endswith(page[page.index(marker.format("end")) :])
    with pytest.raises(ValueError, match="expected the lines"):
        in_page("a page", document)


def test_what_there_was_no_time_for_is_in_the_tables(document: dict[str, Any]) -> None:
    row = {"processes": 3, "workers": 12, "batch_size": 8}
    row |= {NOT_MEASURED: "5 s are left, cases take up to 40"}
    with_it = table(document | {"whole": [*document["whole"], row]})
    assert "- processes, loaders, batch 3, 12, 8: not measured: 5 s are left" in with_it
    assert "- processes, loaders, batch 3, 12" not in table(document)


def test_on_a_gpu_shards_are_a_users_and_on_a_cpu_they_have_two_rows(
    tmp_path: Path, records: list[SampleRecord]
) -> None:
    records = renamed_records(records, 960)
    on_gpu = empty_store(tmp_path / "gpu", r50_800x320(), records, 4, "cuda")
    batches = planned_batches((on_gpu.shard(index) for index in on_gpu.all_shards), 4)
    assert on_gpu.layout.slots == 8
    assert {len(places) for _, places in batches} == {4}
    on_cpu = empty_store(tmp_path / "cpu", r50_800x320(), records, 1, "cpu")
    assert on_cpu.layout.slots == CPU_SHARD_ROWS


def report(written_at: list[float], begun_at: float, forwards: int) -> WorkerReport:
    return WorkerReport(
        begun_at=begun_at,
        ended_at=written_at[-1] + 1 if written_at else begun_at,
        written_at=written_at,
        cpu_s=3.0,
        forwards=forwards,
        stage_rates={"loading": 4.0, "computing": 2.0} if written_at else {},
        peak_device_mb=100.0 * forwards,
        queueing={"queueing_ms": 10.0 * forwards},
    )


def test_the_rate_is_that_of_the_time_in_which_all_processes_write() -> None:
    first = report([10.0, 11.0, 12.0, 13.0], begun_at=4.0, forwards=2)
    second = report([11.5, 12.0, 12.5, 14.0, 15.0], begun_at=5.0, forwards=3)
    figures = joint_figures([first, second], batch_size=2)
    assert figures["start_s"] == 11.5 - 4.0
    assert figures["steady_rows"] == 4  # at 12, 13; 12, 12.5
    assert figures["steady_per_s"] == pytest.approx(4 / 1.5)
    assert figures["wall_s"] == pytest.approx((16.0 - 4.0) / 9)
    assert figures["cpu_s"] == pytest.approx(6.0 / 9)
    assert figures["padded_share"] == pytest.approx(1 / 10)  # nine rows of five batches of two
    assert figures["peak_device_mb"] == 300.0
    assert figures["queueing"] == {"queueing_ms": 30.0}
    assert figures["stage_rates"] == {"loading": 8.0, "computing": 4.0, "writing": 0}


def test_processes_that_never_write_at_once_have_no_joint_rate() -> None:
    apart = [report([1.0, 2.0], 0.0, 2), report([3.0, 4.0], 0.0, 2)]
    assert joint_figures(apart, batch_size=1)["steady_per_s"] is None
    idle = [report([1.0, 2.0], 0.0, 2), report([], 0.0, 0)]
    assert joint_figures(idle, batch_size=1)["steady_per_s"] is None


def task(folder: Path, preset: str) -> WorkerTask:
    return WorkerTask(
        preset=preset,
        folder=str(folder),
        real=str(NOWHERE),
        samples=SAMPLES,
        store=str(folder / "none.zarr"),
        batch_size=1,
        workers=0,
    )


def test_a_worker_that_fails_says_why(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_processes, "MODULE", "benchmarks.speed.nothing")
    with pytest.raises(RuntimeError, match=r"status 1: .*No module named benchmarks.speed.nothing"):
        run_workers(task(folder, "tiny"), 1, deadline=float("inf"))


def test_workers_are_ended_when_the_time_is_over(folder: Path) -> None:
    with pytest.raises(TimeoutError, match="is over"):
        run_workers(task(folder, "tiny"), 2, deadline=time.monotonic())
    assert workers_of(folder) == []


def test_writing_to_the_disk_leaves_nothing(tmp_path: Path) -> None:
    assert disk_mb_per_s(tmp_path, 2**20) > 0
    assert not list(tmp_path.iterdir())
