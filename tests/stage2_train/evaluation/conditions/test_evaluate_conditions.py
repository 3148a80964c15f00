"""`evaluate-stage2 --conditions`: a folder for each, and a table that says what it compares."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from cache.delta.delta_metadata import ConditionSummary
from cache.delta.open_features import open_delta
from cache.reader import CachedFeatures
from shared.config.classes import CAMERAS, LIDAR
from stage2_train import store_evaluation
from stage2_train.__main__ import main as train_stage2
from stage2_train.data.dataset import StoreDataset
from stage2_train.data.loader import evaluation_batches
from stage2_train.evaluate import main as evaluate_stage2
from stage2_train.run.trained_detector import load_detector
from tests.cache.delta.small_deltas import plan_of, write_small_delta
from tests.pictures import decoded

ALL = "rrr"


@pytest.fixture(scope="module")
def base(tiny_store: Path) -> CachedFeatures:
    return CachedFeatures(tiny_store)


@pytest.fixture(scope="module")
def deltas(base: CachedFeatures, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three severities of one condition of the LiDAR, and a single one of a camera."""
    folder = tmp_path_factory.mktemp("deltas")
    paths = []
    for name, family, severity, letters in (
        ("beams-1", "beams", 1, {LIDAR: "r.."}),
        ("beams-2", "beams", 2, {LIDAR: "rr."}),
        ("beams-3", "beams", 3, {LIDAR: ALL}),
        ("back-lost", "cameras", None, {CAMERAS[3]: ALL}),
    ):
        condition = ConditionSummary(name=name, family=family, severity=severity, source="a test")
        path = folder / f"train.{name}.zarr"
        write_small_delta(path, base, plan_of(base, letters), name=name, condition=condition)
        paths.append(path)
    return paths


@pytest.fixture(scope="module")
def runs(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run with AQR, of one step, and one without."""
    folders = {}
    for name, aqr in (("aqr", "default"), ("cmt", "none")):
        folders[name] = tmp_path_factory.mktemp("runs") / name
        options = ["--out", str(folders[name]), "--recipe", "first_steps", "--stop-after", "1"]
        assert train_stage2([str(tiny_store), *options, "--set", f"aqr={aqr}"]) == 0
    return folders


def call(*arguments: object) -> int:
    return evaluate_stage2([*map(str, arguments)])


def test_every_condition_is_judged_and_both_detectors_are_compared(
    tiny_store: Path,
    synthetic_root: Path,
    deltas: Sequence[Path],
    runs: dict[str, Path],
    base: CachedFeatures,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plotted = tmp_path / "plotted.txt"  # those of a condition are drawn elsewhere in the tests

    def note(_: object, __: object, plots: int, folder: Path) -> None:
        with plotted.open("a") as file:
            file.write(f"{plots} {folder.relative_to(tmp_path)}\n")

    monkeypatch.setattr(store_evaluation, "plot_evaluation", note)
    where = (tiny_store, runs["aqr"], "--out", tmp_path, "--nuscenes", synthetic_root)
    both = ("--conditions", *deltas, "--drop", "lidar", "--baseline", runs["cmt"])
    assert call(*where, *both, "--plot", "1") == 0

    names = ["no_lidar", "beams-1", "beams-2", "beams-3", "back-lost"]
    document = json.loads((tmp_path / "conditions.json").read_text())
    assert list(document["conditions"]) == ["clean", *names]
    for name in names:
        summary = json.loads((tmp_path / name / "metrics_summary.json").read_text())
        compared = json.loads((tmp_path / "baseline" / name / "metrics_summary.json").read_text())
        row = document["conditions"][name]
        assert row["NDS"] == summary["nd_score"]
        assert row["mAVE"] == summary["tp_errors"]["vel_err"]
        assert row["baseline_NDS"] == compared["nd_score"]
        assert row["lidar_change"] == pytest.approx(
            row["lidar_weight"] - document["conditions"]["clean"]["lidar_weight"]
        )
    (family,) = document["families"]
    assert (family["family"], family["severities"], family["is_counted"]) == (
        "beams",
        [1, 2, 3],
        True,
    )
    assert document["baseline"] == str(runs["cmt"])
    text = (tmp_path / "conditions.md").read_text()
    assert text in capsys.readouterr().out
    assert "have no severities: no_lidar, back-lost" in text
    assert "not a whole official split" not in document["coverage"]  # all of mini_train
    decoded(tmp_path / "conditions.png")
    places = ["", *(f"{name}/" for name in names)]
    assert sorted(plotted.read_text().splitlines()) == sorted(
        f"1 {detector}{place}pictures" for detector in ("", "baseline/") for place in places
    )
    with (tmp_path / "conditions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["severity"] for row in rows] == ["", "", "1", "2", "3", ""]
    # The table of the baseline, read as published numbers, gives the same ratios.
    table = tmp_path / "baseline" / "conditions.csv"
    other = (tiny_store, runs["aqr"], "--out", tmp_path / "b", "--nuscenes", synthetic_root)
    assert call(*other, "--plot", 0, "--conditions", *deltas[:3], "--baseline", table) == 0
    again = json.loads((tmp_path / "b" / "conditions.json").read_text())
    assert (again["mRRA"], again["mRA"]) == (document["mRRA"], document["mRA"])
    assert (
        "The baseline's numbers are from a file" in (tmp_path / "b" / "conditions.md").read_text()
    )
    assert not (tmp_path / "b" / "conditions.png").exists()


def test_the_weights_are_the_mean_over_all_queries_under_the_condition(
    tiny_store: Path,
    synthetic_root: Path,
    deltas: Sequence[Path],
    runs: dict[str, Path],
    base: CachedFeatures,
    tmp_path: Path,
) -> None:
    where = (tiny_store, runs["aqr"], "--out", tmp_path, "--nuscenes", synthetic_root)
    assert call(*where, "--plot", 0, "--conditions", deltas[2]) == 0

    detector = load_detector(runs["aqr"], base).eval()
    delta = open_delta(deltas[2], base)
    expected = {}
    for name, store in (("clean", base), ("beams-3", delta)):
        batches = evaluation_batches(StoreDataset(store, base.tokens), 3, workers=0)
        with torch.no_grad():
            expected[name] = torch.cat([detector(batch).sensor_weights for batch in batches])
    document = json.loads((tmp_path / "conditions.json").read_text())["conditions"]
    for name, weights in expected.items():
        means = weights.mean(dim=(0, 1)).tolist()
        row = document[name]
        assert [row["lidar_weight"], row["cameras_weight"]] == pytest.approx(means, abs=1e-6)
    assert document["beams-3"]["lidar_change"] != 0


def test_a_condition_that_the_detector_does_not_read_is_named(
    tiny_store: Path,
    synthetic_root: Path,
    runs: dict[str, Path],
    base: CachedFeatures,
    tmp_path: Path,
) -> None:
    idle = tmp_path / "idle.zarr"
    summary = ConditionSummary(name="idle", family="idle", severity=None, source="a test")
    plan = plan_of(base, {})
    write_small_delta(idle, base, plan, name="idle", condition=summary, may_change_nothing=True)

    where = (tiny_store, runs["cmt"], "--out", tmp_path / "out", "--nuscenes", synthetic_root)
    assert call(*where, "--plot", 0, "--conditions", idle) == 0

    text = (tmp_path / "out" / "conditions.md").read_text()
    assert "bit for bit, so this detector does not read what changes under idle" in text
    assert "sensor weight" not in text  # no AQR


def test_what_does_not_go_together_is_refused(
    tiny_store: Path,
    synthetic_root: Path,
    deltas: Sequence[Path],
    runs: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    where = (tiny_store, runs["aqr"], "--out", tmp_path / "out")
    judged = (*where, "--nuscenes", synthetic_root)
    published = tmp_path / "published.csv"
    published.write_text("family,severity,NDS\nfog,1,0.5\n")
    for arguments, message in (
        ((*judged, "--conditions", deltas[0], deltas[0]), "are both of the condition beams-1"),
        ((*where, "--conditions", deltas[0], "--baseline", runs["cmt"]), "it needs --nuscenes"),
        ((*judged, "--baseline", runs["cmt"]), "delta stores with --conditions, or --drop"),
        ((*judged, "--conditions", deltas[0], "--baseline", published), "has none of the cond"),
    ):
        assert call(*arguments) == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out" / "results_nusc.json").exists()


def test_a_delta_of_a_different_base_is_refused(
    tiny_val_store: Path,
    deltas: Sequence[Path],
    runs: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(tiny_val_store, runs["aqr"], "--out", tmp_path, "--conditions", deltas[0]) == 1
    assert "is a delta of a different store" in capsys.readouterr().err
