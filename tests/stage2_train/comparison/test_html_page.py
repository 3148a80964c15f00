"""The page of a comparison works in a real browser, by itself."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from stage2_train.comparison.compare import compare_runs, write_comparison_files
from stage2_train.comparison.curve_chart import Curve, curve_chart
from tests.stage2_train.comparison.run_folders import write_run

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE_S = 120
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-extensions", "--hide-scrollbars")
# What a reader would do and see, reported in the title after the page's own script has run.
PROBE = """
<script>
const button = document.querySelector(".legend button");
const lines = () => [...document.querySelectorAll("h2 + svg polyline")];
const shown = () => lines().filter(line => getComputedStyle(line).display !== "none").length;
const before = shown();
button.click();
const after = shown();
button.click();
const {color: ink, backgroundColor: paper} = getComputedStyle(document.body);
document.title = JSON.stringify({before, after, again: shown(), ink, paper,
  ready: document.documentElement.dataset.ready, wide: document.body.scrollWidth <= innerWidth,
  requests: performance.getEntriesByType("resource").length});
</script>
"""


@pytest.fixture(scope="module")
def browser() -> str:
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    return found


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """The page of three runs, one of them with a name that has to be escaped."""
    validation = "step,loss,mAP,NDS\n2,3.5,0.1,0.2\n4,3.0,0.2,0.3\n"
    runs = [
        write_run(tmp_path / "runs" / "a0", validation=validation),
        write_run(tmp_path / "runs" / "a1", seed=1, validation=validation),
        write_run(tmp_path / "runs" / '<b> & "c"', learning_rate=1.0),
    ]
    write_comparison_files(compare_runs(runs), tmp_path / "out")
    return tmp_path / "out" / "comparison.html"


def opened(browser: str, page: Path, profile: Path, *flags: str) -> str:
    """Return the document as the browser has it after scripts have run."""
    command = [browser, *FLAGS, f"--user-data-dir={profile}", "--dump-dom", *flags, page.as_uri()]
    ended = subprocess.run(command, capture_output=True, timeout=PATIENCE_S, check=True)
    return ended.stdout.decode()


@pytest.mark.parametrize(
    ("flags", "is_dark"), [((), False), (("--blink-settings=preferredColorScheme=0",), True)]
)
def test_a_browser_shows_the_curves_and_hides_a_run_on_a_click(
    flags: tuple[str, ...], is_dark: bool, browser: str, page: Path, tmp_path: Path
) -> None:
    probed = page.with_name("probed.html")
    probed.write_text(page.read_text().replace("</body>", f"{PROBE}</body>"))

    document = opened(browser, probed, tmp_path / "profile", *flags)

    title = re.search("<title>(.*?)</title>", document)
    assert title is not None
    said = title[1]
    assert '"ready":"yes"' in said
    # Three runs have a training loss, two have NDS, mAP and a loss in validation.
    assert '"before":9,"after":5,"again":9' in said
    assert '"requests":0' in said
    assert '"wide":true' in said
    assert ('"paper":"rgb(22, 22, 22)"' in said) == is_dark
    assert ('"ink":"rgb(26, 26, 26)"' in said) != is_dark
    assert "&lt;b&gt; &amp; " in document


def test_the_page_names_nothing_outside_itself(page: Path) -> None:
    text = page.read_text()
    assert not re.search(r"https?:|//[a-z]|\bsrc=|\bhref=|@import|url\(", text)
    assert "default-src 'none'" in text
    assert text.isascii()


def chart(values: list[float]) -> str:
    steps = np.arange(1.0, len(values) + 1)
    return curve_chart([Curve(run="a", style="", steps=steps, values=np.array(values))], "loss")


def test_a_curve_has_its_lowest_value_at_the_bottom_and_its_highest_at_the_top() -> None:
    (points,) = re.findall('points="(.*?)"', chart([1.0, 3.0, 2.0]))
    ys = [float(point.split(",")[1]) for point in points.split()]
    assert ys == [260.0, 12.0, 136.0]


def test_values_that_are_far_apart_get_a_logarithmic_axis() -> None:
    (points,) = re.findall('points="(.*?)"', chart([1.0, 10.0, 100.0]))
    ys = [float(point.split(",")[1]) for point in points.split()]
    assert ys == [260.0, 136.0, 12.0]


def test_a_long_curve_is_averaged_and_what_was_not_measured_is_left_out() -> None:
    (points,) = re.findall('points="(.*?)"', chart([float("nan"), *np.linspace(1, 2, 5000)]))
    assert len(points.split()) == 300
    assert "nan" not in points


@pytest.mark.parametrize("values", [[], [float("nan")]])
def test_without_values_there_is_no_chart(values: list[float]) -> None:
    assert chart(values) == ""


@pytest.mark.parametrize("value", [0.0, 5.0, -2.0])
def test_a_constant_curve_has_a_chart(value: float) -> None:
    assert "polyline" in chart([value, value])
