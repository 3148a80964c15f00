"""The pictures of an evaluation show the devkit's curves and every box once."""

import builtins
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
import pytest

from shared.errors import ConfigError
from stage2_train.evaluation.detection_errors import SampleErrors, sample_errors
from stage2_train.evaluation.official_metrics import Judgement, judge
from stage2_train.evaluation.official_tables import coverage
from stage2_train.plots.evaluation_plots import plot_evaluation
from stage2_train.plots.plot_choice import parse_plots, require_plottable
from stage2_train.plots.plot_errors import plot_error_map, plot_sample
from tests.pictures import decoded
from tests.stage2_train.evaluation.submissions import spoilt, true_entries, write_submission

Figures = list[matplotlib.figure.Figure]


@pytest.fixture(scope="module")
def judged(tables: Any, tmp_path_factory: pytest.TempPathFactory) -> Judgement:
    out = tmp_path_factory.mktemp("judged")
    tokens = [sample["token"] for sample in tables.sample]
    results = write_submission(out / "mine.json", spoilt(true_entries(tables, tokens)))
    return judge(results, tables, coverage(tables, tokens), tokens, out)


@pytest.fixture
def plotted(monkeypatch: pytest.MonkeyPatch) -> Figures:
    """The figures that a test would save; drawing them takes longer than all that is asked here."""
    figures: Figures = []

    def remember(figure: matplotlib.figure.Figure, *_: Any, **__: Any) -> None:
        figures.append(figure)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", remember)
    return figures


def test_these_pictures_are_written(judged: Judgement, tables: Any, tmp_path: Path) -> None:
    chosen = tuple(judged.truth.sample_tokens[2:4])

    plot_evaluation(judged, tables, chosen, tmp_path / "one")
    plot_evaluation(judged, tables, 0, tmp_path / "none")

    names = {"precision_recall.png", "errors_bev.png", *(f"errors_{token}.png" for token in chosen)}
    assert {file.name for file in (tmp_path / "one").iterdir()} == names
    for file in (tmp_path / "one").iterdir():
        decoded(file)
    assert not (tmp_path / "none").exists()


def test_every_class_shows_the_curves_of_the_devkit(
    judged: Judgement, tables: Any, tmp_path: Path, plotted: Figures
) -> None:
    plot_evaluation(judged, tables, 1, tmp_path)

    assert len(plotted) == 3  # curves, the map, and the worst sample
    panels = {panel.get_title().splitlines()[0]: panel for panel in plotted[0].axes}
    assert len(panels) == 10
    for name, count in judged.summary["true_boxes"].items():
        lines = panels[name.replace("_", " ")].lines
        assert len(lines) == (4 if count else 0)
        for line, limit_m in zip(lines, (0.5, 1.0, 2.0, 4.0), strict=False):
            curve = judged.curves[name, limit_m]
            np.testing.assert_array_equal(
                line.get_xydata(), np.stack([curve.recall, curve.precision], 1)
            )


def test_every_box_of_a_sample_is_plotted_in_its_colour(
    judged: Judgement, tables: Any, tmp_path: Path, plotted: Figures
) -> None:
    token = judged.truth.sample_tokens[0]
    errors = sample_errors(tables, judged.truth, judged.detections, token)
    assert 0 < errors.is_found.sum() < len(errors.is_found)

    plot_sample(errors, tmp_path / "sample.png")

    (axes,) = plotted[0].axes
    collections: Sequence[Any] = axes.collections
    lines = {line.get_label().partition(":")[0]: line for line in collections}
    boxes = {name: len(line.get_segments()) / 2 for name, line in lines.items()}  # outline, heading
    assert boxes == {
        "true box, found": errors.is_found.sum(),
        "true box, missed": (~errors.is_found).sum(),
        "its detection": errors.is_true.sum(),
        "false positive": (~errors.is_true).sum(),
    }
    outline = lines["true box, missed"].get_segments()[0]
    centre = errors.true_boxes[~errors.is_found][0, :2]
    np.testing.assert_allclose(outline[:4].mean(axis=0), centre)
    assert "forward" in axes.get_ylabel()


def test_the_map_counts_every_box_in_its_cell(
    judged: Judgement, tables: Any, tmp_path: Path, plotted: Figures
) -> None:
    samples = [
        sample_errors(tables, judged.truth, judged.detections, token)
        for token in judged.truth.sample_tokens
    ]

    plot_error_map(samples, tmp_path / "map.png")

    counts, share, false = (axes.images[0].get_array() for axes in plotted[0].axes[:3])
    assert np.nansum(counts) == sum(len(errors.true_boxes) for errors in samples)
    missed = sum((~errors.is_found).sum() for errors in samples)
    assert np.nansum(counts * share) == pytest.approx(missed)
    assert np.nansum(false) == sum((~errors.is_true).sum() for errors in samples)


def test_the_map_has_forward_up_and_right_to_the_right(tmp_path: Path, plotted: Figures) -> None:
    sample = SampleErrors(
        token="a",
        scene="scene",
        ego_xy_m=np.zeros(2),
        true_boxes=np.array([[21.0, -41.0, 4.0, 2.0, 0.0], [22.0, -42.0, 4.0, 2.0, 0.0]]),
        found_boxes=np.zeros((0, 5)),
        is_found=np.array([True, False]),
        is_true=np.zeros(0, bool),
    )

    plot_error_map([sample], tmp_path / "map.png")

    image = plotted[0].axes[1].images[0]
    row, column = (-45 + 55) // 5, (20 + 55) // 5  # of y from -45 to -40 m, x from 20 to 25 m
    assert image.get_array()[row, column] == 0.5
    assert image.get_array().count() == 1  # of 22 x 22 cells, the others are masked
    assert image.origin == "lower"


def test_samples_to_plot_are_a_number_or_tokens() -> None:
    assert parse_plots("4") == 4
    assert parse_plots("3e8750f3,42") == ("3e8750f3", "42")
    assert parse_plots("0" * 32) == ("0" * 32,)


def test_a_sample_that_is_not_evaluated_cannot_be_plotted() -> None:
    with pytest.raises(ConfigError, match=r"--plot c: not among the 2 samples evaluated \(such as"):
        require_plottable(("a", "c"), ("a", "b"))


def test_missing_matplotlib_is_reported_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "matplotlib":
            raise ModuleNotFoundError("No module named 'matplotlib'")
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)

    require_plottable(0, ("a",))
    with pytest.raises(ConfigError, match=r"pip install 'frozen-cmt\[evaluate\]', or --plot 0"):
        require_plottable(2, ("a",))
