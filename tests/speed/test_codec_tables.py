"""The documentation and the estimate state what was measured for each codec."""

import json
from math import ceil, floor
from typing import Any

import pytest

from benchmarks.speed.codecs.codec_tables import SENSORS, ratios, tables
from cache.format.codec import CODECS
from cache.inspection.estimate import RATIOS

EXACT = 1e-3  # of a hundredth: four bytes of checksum do not change a ratio


@pytest.fixture
def document(request: pytest.FixtureRequest) -> dict[str, Any]:
    results = request.config.rootpath / "benchmarks/results/codecs.json"
    measured: dict[str, Any] = json.loads(results.read_text())
    return measured


def test_the_estimate_covers_every_measured_ratio(document: dict[str, Any]) -> None:
    assert set(RATIOS) == set(CODECS)
    for codec, by_sensor in RATIOS.items():
        for sensor in SENSORS:
            low, high = ratios(document["rows"], codec, sensor)
            rounded = floor(100 * low + EXACT) / 100, ceil(100 * high - EXACT) / 100
            assert by_sensor[sensor] == rounded, (codec, sensor)


def test_the_documentation_contains_the_measured_tables(
    document: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    documentation = (request.config.rootpath / "docs/store.md").read_text()
    for table in tables(document):
        assert table in documentation
