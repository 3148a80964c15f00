"""Any submission is scored with nuscenes-devkit's own numbers, or refused with a reason."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nuscenes import NuScenes

from shared.errors import DatasetError
from stage2_train.evaluate import main as evaluate_stage2
from stage2_train.evaluation.official_metrics import _has_boxes
from stage2_train.store_evaluation import evaluate_submission
from tests.stage2_train.evaluation.submissions import META, spoilt, true_entries, write_submission

OFFICIAL = ("label_aps", "mean_dist_aps", "mean_ap", "label_tp_errors", "tp_errors", "tp_scores")
OFFICIAL += ("nd_score", "cfg", "meta")

# NumPy adds up means in an order that depends on the CPU's vector width. Over the up to 10,000
# boxes of a class that changes them by up to 10,000 roundings of 1.1e-16.
MEAN_TOLERANCE = 1e-12


@pytest.fixture(scope="module")
def truth(tables: Any) -> dict[str, list[dict[str, Any]]]:
    """Ground truth of the validation scene, the only one that the tables have of mini_val."""
    scene = [scene for scene in tables.scene if scene["name"] == "scene-0103"]
    assert len(scene) == 1
    scene_token = scene[0]["token"]
    samples = [sample for sample in tables.sample if sample["scene_token"] == scene_token]
    return true_entries(tables, [sample["token"] for sample in samples])


def official_numbers(summary: dict[str, Any]) -> str:
    """Return the devkit's keys as text, where NaN equals NaN."""
    return json.dumps({key: summary[key] for key in OFFICIAL}, sort_keys=True)


def test_the_numbers_and_the_curves_are_those_of_the_official_tool(
    synthetic_root: Path, truth: dict[str, Any], tmp_path: Path
) -> None:
    results = write_submission(tmp_path / "mine.json", spoilt(truth))
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"

    options = ["--results", str(results), "--nuscenes", str(synthetic_root), "--out", str(ours)]
    assert evaluate_stage2([*options, "--plot", "0"]) == 0
    subprocess.run(
        [
            *(sys.executable, "-m", "nuscenes.eval.detection.evaluate", str(results)),
            *("--output_dir", str(theirs), "--dataroot", str(synthetic_root)),
            *("--eval_set", "mini_val", "--version", "v1.0-mini"),
            *("--plot_examples", "0", "--render_curves", "0"),
        ],
        check=True,
        capture_output=True,
        timeout=600,
    )

    summaries = [json.loads((at / "metrics_summary.json").read_text()) for at in (ours, theirs)]
    assert 0.1 < summaries[1]["mean_ap"] < 0.9
    assert official_numbers(summaries[0]) == official_numbers(summaries[1])
    details = [json.loads((at / "metrics_details.json").read_text()) for at in (ours, theirs)]
    assert json.dumps(details[0]) == json.dumps(details[1])
    assert summaries[0]["split"] == "mini_val"
    table = (ours / "metrics.txt").read_text()
    assert f"{summaries[1]['mean_ap']:.4f}" in table
    assert "only 1 of its 2 scenes" in table


def test_our_own_steps_give_the_numbers_of_the_devkits(
    synthetic_root: Path, truth: dict[str, Any], tmp_path: Path
) -> None:
    """Tables of a different name have no official split, so our own steps are taken."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "maps").symlink_to(synthetic_root / "maps")
    (root / "v1.0-mine").symlink_to(synthetic_root / "v1.0-mini")
    results = write_submission(tmp_path / "mine.json", spoilt(truth))

    official = evaluate_submission(results, synthetic_root, tmp_path / "official")
    by_hand = evaluate_submission(results, root, tmp_path / "by_hand")

    assert (official["split"], by_hand["split"]) == ("mini_val", None)
    assert official_numbers(official) == official_numbers(by_hand)
    assert official["by_distance"] == by_hand["by_distance"]


def test_ground_truth_is_perfect_at_every_distance_also_for_a_part(
    synthetic_root: Path, truth: dict[str, Any], tmp_path: Path
) -> None:
    part = dict(list(truth.items())[1:])
    results = write_submission(tmp_path / "part.json", part)

    summary = evaluate_submission(results, synthetic_root, tmp_path / "out")

    present = [name for name, count in summary["true_boxes"].items() if count]
    assert len(present) >= 3
    assert [summary["mean_dist_aps"][name] for name in present] == pytest.approx(
        [1.0] * len(present), abs=1e-6
    )
    assert summary["mean_ap_present"] == pytest.approx(1.0, abs=1e-6)
    for band in summary["by_distance"].values():
        assert band["mean_ap"] == pytest.approx(1.0, abs=1e-6)
    assert (summary["samples"], summary["split"]) == (2, None)
    assert summary["coverage"].startswith("2 samples (2 of 3 of mini_val): not a whole")


def test_a_submission_without_a_single_box_scores_zero(
    synthetic_root: Path, truth: dict[str, Any], tmp_path: Path
) -> None:
    results = write_submission(tmp_path / "empty.json", {token: [] for token in truth})

    summary = evaluate_submission(results, synthetic_root, tmp_path / "out", plots=1)

    assert (summary["mean_ap"], summary["nd_score"], summary["split"]) == (0.0, 0.0, "mini_val")
    assert all(band["mean_ap"] in (0.0, None) for band in summary["by_distance"].values())


@pytest.mark.parametrize("layout", [{}, {"indent": 2}, {"separators": (" , ", " : ")}])
def test_a_result_file_has_boxes_or_not_however_it_is_laid_out(
    truth: dict[str, Any], tmp_path: Path, layout: dict[str, Any]
) -> None:
    file, empty = tmp_path / "mine.json", {token: [] for token in truth}
    for results, has_boxes in ((truth, True), (empty, False)):
        file.write_text(json.dumps({"meta": META, "results": results}, **layout))
        assert _has_boxes(file) == has_boxes


@pytest.mark.parametrize("samples", [1, 3])  # a part, and the whole split
def test_samples_without_ground_truth_are_refused(
    synthetic_root: Path, truth: dict[str, Any], tmp_path: Path, samples: int
) -> None:
    root = tmp_path / "root"
    shutil.copytree(synthetic_root / "v1.0-mini", root / "v1.0-mini")
    (root / "maps").symlink_to(synthetic_root / "maps")
    annotations = root / "v1.0-mini" / "sample_annotation.json"
    rows = [row for row in json.loads(annotations.read_text()) if row["sample_token"] not in truth]
    annotations.write_text(json.dumps(rows))
    results = write_submission(tmp_path / "mine.json", dict(list(truth.items())[:samples]))

    with pytest.raises(DatasetError, match=rf"none of the {samples} samples .* has a true box"):
        evaluate_submission(results, root, tmp_path / "out")


def test_scores_that_the_devkit_cannot_rank_are_explained(
    synthetic_root: Path, truth: dict[str, Any], tmp_path: Path
) -> None:
    logits = {
        token: [{**box, "detection_score": box["detection_score"] - 5} for box in boxes]
        for token, boxes in spoilt(truth).items()
    }
    results = write_submission(tmp_path / "logits.json", logits)

    with pytest.raises(DatasetError, match=r"logits\.json: the lowest score is -5, and"):
        evaluate_submission(results, synthetic_root, tmp_path / "out")


def test_a_sample_of_other_tables_is_named(
    synthetic_root: Path, truth: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = write_submission(tmp_path / "mine.json", {**truth, "unheard-of": []})
    options = ["--results", str(results), "--nuscenes", str(synthetic_root)]

    assert evaluate_stage2([*options, "--out", str(tmp_path / "out")]) == 1

    assert "1 of 4 samples (first unheard-of) are not in the v1.0-mini" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


SUBMISSION = ["--results", "r.json", "--nuscenes", "n"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "expected a store and a run"),
        (["a.zarr"], "got no run"),
        (["a.zarr", "run", *SUBMISSION], "it takes no store, no run and no --drop"),
        ([*SUBMISSION, "--drop", "lidar"], "it takes no store, no run and no --drop"),
        ([*SUBMISSION, "--conditions", "d.zarr"], "and no --drop, --conditions or --baseline"),
        ([*SUBMISSION, "--baseline", "run"], "and no --drop, --conditions or --baseline"),
        (["--results", "r.json"], "--results needs --nuscenes"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert evaluate_stage2(["--out", str(tmp_path / "out"), *options]) == 1
    assert message in capsys.readouterr().err


def assert_nearly_equal(ours: Any, theirs: Any, where: str = "") -> None:
    """Check that documents have the same structure, and the same numbers up to rounding."""
    assert type(ours) is type(theirs), where
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys(), where
        for key, value in theirs.items():
            assert_nearly_equal(ours[key], value, f"{where}/{key}")
    elif isinstance(theirs, list):
        assert len(ours) == len(theirs), where
        for index, value in enumerate(theirs):
            assert_nearly_equal(ours[index], value, f"{where}/{index}")
    elif isinstance(theirs, float):
        assert ours == pytest.approx(theirs, rel=MEAN_TOLERANCE, abs=0, nan_ok=True), where
    else:
        assert ours == theirs, where


def test_documents_are_not_nearly_equal_where_a_number_or_the_structure_differs() -> None:
    document = {"a": [1.0, float("nan")], "b": {"c": 2, "d": None}}

    assert_nearly_equal({"a": [1.0 + 1e-15, float("nan")], "b": {"c": 2, "d": None}}, document)

    for other in (
        {"a": [1.0 + 1e-11, float("nan")], "b": {"c": 2, "d": None}},
        {"a": [1.0, 0.0], "b": {"c": 2, "d": None}},
        {"a": [1.0], "b": {"c": 2, "d": None}},
        {"a": [1.0, float("nan")], "b": {"c": 2}},
        {"a": [1.0, float("nan")], "b": {"c": 2.0, "d": None}},
    ):
        with pytest.raises(AssertionError):
            assert_nearly_equal(other, document)


@pytest.mark.real
def test_a_published_submission_gets_its_official_numbers(
    nuscenes_real: Path, tmp_path: Path
) -> None:
    results = nuscenes_real / "results" / "cc_3dt_pure_det.mini_val.json"
    expected = json.loads(
        (nuscenes_real / "eval_summaries" / "cc_3dt_pure_det.metrics_summary.json").read_text()
    )

    evaluate_submission(results, nuscenes_real, tmp_path)

    summary = json.loads((tmp_path / "metrics_summary.json").read_text())
    assert set(expected) == {*OFFICIAL, "eval_time"}
    for key in OFFICIAL:
        assert_nearly_equal(summary[key], expected[key], key)
    assert (round(summary["mean_ap"], 5), round(summary["nd_score"], 5)) == (0.219, 0.26915)
    assert summary["coverage"] == "all 81 samples of mini_val, 2 of its 2 scenes"


@pytest.mark.real
def test_real_ground_truth_is_perfect_in_the_seven_classes_present(
    nuscenes_real: Path, tmp_path: Path
) -> None:
    tables = NuScenes("v1.0-mini", str(nuscenes_real), verbose=False)
    scenes = {
        scene["token"] for scene in tables.scene if scene["name"] in ("scene-0103", "scene-0916")
    }
    tokens = [sample["token"] for sample in tables.sample if sample["scene_token"] in scenes]
    results = write_submission(tmp_path / "truth.json", true_entries(tables, tokens))

    summary = evaluate_submission(results, nuscenes_real, tmp_path / "out")

    aps = [ap for name, ap in summary["mean_dist_aps"].items() if summary["true_boxes"][name]]
    np.testing.assert_allclose(aps, [1.0] * 7, atol=1e-9)
    assert summary["mean_ap"] == pytest.approx(0.7)
    assert all(b["mean_ap"] == pytest.approx(1.0) for b in summary["by_distance"].values())
