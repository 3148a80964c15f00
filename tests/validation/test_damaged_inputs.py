"""The measurement of damaged inputs, small."""

import json
from pathlib import Path

import pytest

from benchmarks.validation import damaged_inputs


def test_every_damage_is_tried_and_cuts_are_always_noticed(
    synthetic_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(damaged_inputs, "REPEATS", 1)
    file = tmp_path / "result.json"
    arguments = [str(synthetic_root), "--tries", "4", "--json", str(file)]
    assert damaged_inputs.main(arguments) == 0
    result = json.loads(file.read_text())
    assert result["noticed"]["cut and closed"] == result["noticed"]["hole of 4096 bytes"] == 4
    images = sorted(synthetic_root.glob("samples/CAM*/*.jpg"))
    assert damaged_inputs.noticed(images, lambda jpeg, size, draw: jpeg, 0, 4) == 0
    assert all(time_ms > 0 for time_ms in result["ms"].values())
