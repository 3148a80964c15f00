"""The GPU benchmark measures what it says, keeps what it has, and runs without a GPU."""

import json
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch.autograd import DeviceType  # type: ignore[attr-defined]

from benchmarks.markdown import pasted
from benchmarks.speed.gpu import __main__ as benchmark
from benchmarks.speed.gpu.cases import NOT_MEASURED, Cases, read_rows
from benchmarks.speed.gpu.goals import GOALS, NO_GPU, goals_table
from benchmarks.speed.gpu.kernel_times import busy_us, kernel_times
from benchmarks.speed.gpu.plan import R50, SECTION_NAMES, VOV, limit_s, plan
from benchmarks.speed.gpu.section_request import SectionRequest
from benchmarks.speed.gpu.sections import SECTIONS
from benchmarks.speed.gpu.step_probe import StepProbe, Stretches
from benchmarks.speed.gpu.synthetic_store import write_synthetic_store
from benchmarks.speed.gpu.tables import TABLES, markdown
from benchmarks.speed.gpu.training_case import (
    run_training,
    short_recipe,
    store_batches,
    store_detector,
)
from cache.reader import CachedFeatures
from shared.config.preset_catalogue import load_preset


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> CachedFeatures:
    path = tmp_path_factory.mktemp("benchmark") / "tiny.zarr"
    return write_synthetic_store(path, load_preset("tiny"), 6)


@pytest.fixture
def document(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What was measured on a GPU; nothing yet where the file does not exist."""
    results: Path = request.config.rootpath / benchmark.RESULTS
    return json.loads(results.read_text()) if results.exists() else {}


def test_the_documentation_contains_what_was_measured(
    document: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    page = (request.config.rootpath / benchmark.PAGE).read_text()
    assert page == pasted(page, benchmark.BEGIN, benchmark.END, markdown(document))
    assert all(goal in page for _, goal, _, _ in GOALS)


def test_a_column_without_a_measurement_says_so() -> None:
    assert goals_table({}).count(NO_GPU) == len(GOALS)


def test_pasting_replaces_what_is_between_the_markers_and_nothing_else() -> None:
    page = pasted("before\nBEGIN\nold\nEND\nafter\n", "BEGIN", "END", "new")
    assert page == "before\nBEGIN\n\nnew\n\nEND\nafter\n"
    assert pasted(page, "BEGIN", "END", "new") == page
    with pytest.raises(ValueError, match="expected the lines"):
        pasted("no markers", "BEGIN", "END", "new")


def test_a_rehearsal_measures_a_section_and_leaves_the_documentation_alone(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = request.config.rootpath
    monkeypatch.chdir(root)
    before = benchmark.PAGE.read_text()
    results = tmp_path / "rehearsal.json"
    benchmark.main(["--quick", "--sections", "loader", "--json", str(results)])
    written = json.loads(results.read_text())
    (section,) = written["sections"]
    assert (section["preset"], section["section"], section["ended"]) == (
        "tiny",
        "loader",
        "complete",
    )
    assert [row["threads"] for row in section["rows"]][:2] == [0, 1]
    assert all(row["samples_per_s"] > 0 < row["codec_samples_per_s"] for row in section["rows"])
    assert "The loader alone, tiny" in markdown(written)
    assert benchmark.PAGE.read_text() == before


def test_only_a_rehearsal_runs_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit, match="no CUDA device here"):
        benchmark.main([])


def test_a_section_that_fails_or_takes_too_long_keeps_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "cannot read $*" >&2\nexit 1\n')
    python.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(python))
    (planned,) = plan(["tiny"], ["loader"])
    request = partial(SectionRequest, store=tmp_path / "none.zarr", scratch=tmp_path, is_quick=True)
    rows = tmp_path / "failing.jsonl"
    rows.write_text('{"threads": 0}\n{"threads": 1, "cut')
    failing = request(section="loader", rows=rows, seconds=60.0)
    failed = benchmark._measured(planned, failing)
    assert failed["ended"].startswith("failed with status 1: ")
    assert f"cannot read -m benchmarks.speed.gpu.sections loader {tmp_path}" in failed["ended"]
    assert failed["rows"] == [{"threads": 0}]
    python.write_text("#!/bin/sh\nexec sleep 60\n")
    slow = request(section="loader", rows=tmp_path / "slow.jsonl", seconds=0.1 - benchmark.GRACE_S)
    cut = benchmark._measured(planned, slow)
    assert (cut["ended"], cut["rows"]) == ("cut off after 0 s", [])


def test_a_case_that_raises_or_has_no_time_left_is_written_as_not_measured(tmp_path: Path) -> None:
    def fail() -> dict[str, Any]:
        raise RuntimeError("out of memory")

    cases = Cases(tmp_path / "rows.jsonl", 60.0)
    cases.run({"case": 1}, lambda: {"s": 2.0})
    cases.run({"case": 2}, fail)
    cases.longest_s = 100.0
    cases.run({"case": 3}, lambda: {"s": 2.0})
    written = read_rows(cases.file)
    assert written[0] == {"case": 1, "s": 2.0}
    assert written[1] == {"case": 2, NOT_MEASURED: "RuntimeError: out of memory"}
    assert "cases take up to 100" in written[2][NOT_MEASURED]


def test_every_section_has_a_process_a_table_and_a_share_of_the_time() -> None:
    assert set(SECTIONS) == set(TABLES) == set(SECTION_NAMES)
    planned = plan([R50, VOV], SECTION_NAMES)
    assert [section.section for section in planned if section.preset == R50] == list(SECTION_NAMES)
    assert len(planned) == 2 * len(SECTION_NAMES) - 1  # one start
    deadline = time.monotonic() + 480.0
    limits = [limit_s(planned[number:], deadline) for number in range(len(planned))]
    assert limits[-1] == pytest.approx(480.0, abs=1.0)  # what nobody used
    assert 0.0 < limits[0] < 60.0


@pytest.mark.parametrize("name", ["cmt", "frozen_a", "aqr_only"])
def test_a_run_is_measured_with_and_without_loading(
    store: CachedFeatures, name: str, tmp_path: Path
) -> None:
    recipe = short_recipe(name, 2, "32-true")
    probe = StepProbe(Stretches(warm_up=1, measured=2, profiled=0))
    load: Any = partial(store_batches, store, workers=1)
    row = run_training(store, store_detector(store, recipe), recipe, tmp_path / "run", probe, load)
    pieces = row["pieces_s"]
    assert probe.begun == probe.steps
    assert set(pieces) >= {"data", "forward", "losses", "backward", "update"}
    assert all(seconds > 0.0 for seconds in pieces.values())
    taken = sum(pieces.values())
    assert 0.2 * row["step_s"] < taken < 5.0 * row["step_s"]  # other jobs use the cores, too
    assert row["samples_per_s"] == pytest.approx(2 / row["step_from_loader_s"])
    assert 0.0 <= row["waiting_share"] < 1.0


def test_later_batches_come_from_memory() -> None:
    probe = StepProbe(Stretches(warm_up=2, measured=3, profiled=0))
    fed = probe.feed(iter(range(100)))  # type: ignore[arg-type]
    taken = []
    for _ in range(probe.steps):
        taken.append(next(fed))
        probe._begin()
    assert taken[:5] == [0, 1, 2, 3, 4]
    assert taken[5:] == [[2, 3, 4][i % 3] for i in range(probe.steps - 5)]
    assert probe.times.keys() >= {0, 1, 2, 5, probe.without_loading.start, probe.steps - 1}


@dataclass
class Event:
    """An event of torch's profiler."""

    name: str
    device_type: DeviceType
    start: float = 0.0
    end: float = 0.0
    is_user_annotation: bool = False

    @property
    def time_range(self) -> Any:
        span = self.end - self.start
        return SimpleNamespace(start=self.start, end=self.end, elapsed_us=lambda: span)


def test_kernel_times_are_sums_of_what_ran_on_the_device() -> None:
    cuda, cpu = DeviceType.CUDA, DeviceType.CPU
    events = [
        Event("gemm", cuda, 0.0, 100.0),
        Event("softmax", cuda, 50.0, 150.0),
        Event("gemm", cuda, 200.0, 300.0),
        Event("Memcpy HtoD (Pinned -> Device)", cuda, 300.0, 340.0),
        Event("ProfilerStep#1", cuda, 0.0, 1000.0, is_user_annotation=True),
        Event("cudaLaunchKernel", cpu),
        Event("cuLaunchKernelEx", cpu),
        Event("cudaGraphLaunch", cpu),
        Event("cudaStreamSynchronize", cpu),
        Event("aten::add", cpu, 0.0, 500.0),
    ]
    row = kernel_times(SimpleNamespace(events=lambda: events), steps=2)
    assert row["kernel_s"] == pytest.approx(150e-6)
    assert row["copy_s"] == pytest.approx(20e-6)
    assert row["busy_s"] == pytest.approx(145e-6)
    assert (row["kernels"], row["launches"]) == (1.5, 1.5)
    assert row["synchronisations"] == {"cudaStreamSynchronize": 0.5}
    assert row["top_kernels"][0] == {"name": "gemm", "s": pytest.approx(100e-6)}


def test_busy_time_counts_overlapping_spans_once() -> None:
    assert busy_us([(5.0, 6.0), (0.0, 4.0), (1.0, 2.0), (3.0, 4.5)]) == 5.5
    assert busy_us([]) == 0.0
