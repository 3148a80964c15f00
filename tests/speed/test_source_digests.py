"""The measurement of digesting sensor files, small; and what the documents say of the large one."""

import json
from pathlib import Path

import pytest

from benchmarks.speed import source_digests


def test_a_synthetic_extraction_is_measured_step_by_step(
    synthetic_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_digests, "REPEATS", 1)
    monkeypatch.setattr(source_digests, "FRAMES", 1)
    file = tmp_path / "result.json"
    source_digests.main([str(synthetic_root), "--preset", "tiny", "--json", str(file)])
    result = json.loads(file.read_text())
    assert (result["frames"], result["files"]) == (1, 17)
    times = result["cpu_ms"]
    assert all(time_ms > 0 for time_ms in times.values())
    share = times["digests"] / (times["loading"] + times["backbones"] + times["writing"])
    assert result["share_of_extraction"] == pytest.approx(share, rel=0.02, abs=1e-4)


def test_the_documents_quote_the_result(request: pytest.FixtureRequest) -> None:
    repository = request.config.rootpath
    results = repository / "benchmarks/results/source_digests.json"
    result, text = json.loads(results.read_text()), (repository / "docs/store.md").read_text()
    for time_ms in result["cpu_ms"].values():
        assert f"| {time_ms} |" in text
    assert f"{result['megabytes']} MB a sample" in text
    assert f"{result['share_of_extraction']:.2%} of an extraction" in text
    assert f"{result['share_without_backbones']:.1%} of what is left" in text
    assert result["share_of_extraction"] < source_digests.MOST_SHARE
