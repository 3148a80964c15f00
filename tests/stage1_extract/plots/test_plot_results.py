"""Predicted boxes in pictures come from an evaluation of the same samples."""

import json
from pathlib import Path

import pytest

from cache.reader import CachedFeatures
from shared.errors import DatasetError
from stage1_extract.plot_samples import main as plot_samples
from stage1_extract.plot_samples import read_results


def test_results_of_other_samples_are_refused(
    tiny_store: Path, synthetic_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results.json"
    options = [str(tiny_store), "--nuscenes", str(synthetic_root), "--out", str(tmp_path / "out")]
    options += ["--samples", "1", "--results", str(results)]
    token = CachedFeatures(tiny_store).tokens[0]

    results.write_text(json.dumps({"results": {"another": []}}))
    assert plot_samples(options) == 1
    refused = f"sample {token} of {tiny_store} has no entry in --results"
    assert refused in capsys.readouterr().err

    results.write_text(json.dumps({"results": {token: []}}))
    assert plot_samples(options) == 0


@pytest.mark.parametrize(("results", "came"), [([], "empty"), ({}, "empty"), ("no", "a str")])
def test_results_that_are_not_by_sample_are_refused(
    tmp_path: Path, results: object, came: str
) -> None:
    file = tmp_path / "results.json"
    file.write_text(json.dumps({"results": results}))
    with pytest.raises(DatasetError, match=rf"results\.json is not .* its results are {came}, exp"):
        read_results(file)
