"""The comparison under conditions: recipes that differ in one thing, and an honest table."""

import json
from dataclasses import asdict
from pathlib import Path

from benchmarks.experiments.conditions.__main__ import JUDGED, TRAINED
from benchmarks.experiments.conditions.condition_recipes import COMPARED
from benchmarks.experiments.conditions.seed_table import scores_of, seed_tables
from benchmarks.speed.judged_head import text_of


def test_two_recipes_differ_in_one_thing_each() -> None:
    fields = {name: asdict(make()) for name, make in COMPARED.items()}
    reference = fields["aqr_conditions"]
    for name, expected in (
        ("aqr_clean", {"name", "conditions"}),
        ("cmt_conditions", {"name", "aqr", "lr_multipliers"}),  # rates of what AQR adds
    ):
        assert {key for key in reference if fields[name][key] != reference[key]} == expected
    assert all(make().sensor_drop is None for make in COMPARED.values())
    assert set(TRAINED) < set(JUDGED)


def judged(folder: Path, clean: float, beams: float, dark: float, *, weights: bool) -> Path:
    folder.mkdir()
    rows = {"clean": clean, "beams": beams, "dark": dark}
    added = {"lidar_weight": 0.25, "cameras_weight": -0.5} if weights else {}
    conditions = {name: {"NDS": nds, **added} for name, nds in rows.items()}
    (folder / "conditions.json").write_text(json.dumps({"conditions": conditions, "mRA": 0.5}))
    return folder


def test_the_table_has_mean_and_spread_over_seeds(tmp_path: Path) -> None:
    runs = {
        name: [
            scores_of(
                judged(tmp_path / f"{name}{seed}", 0.4, 0.1 + seed / 10, 0.3, weights=name == "aqr")
            )
            for seed in range(3)
        ]
        for name in ("aqr", "cmt")
    }

    assert runs["aqr"][1]["mean NDS over conditions"] == 0.25
    text = seed_tables(runs)
    assert "mean and standard deviation of 3 seeds | aqr | cmt |" in text
    assert "| mean NDS over conditions | 0.2500 +- 0.0500 | 0.2500 +- 0.0500 |" in text
    assert "| NDS, beams | 0.2000 +- 0.1000 |" in text
    assert "| beams | +0.250 / -0.500 |" in text


def test_ratios_are_of_the_sums() -> None:
    seconds = {
        "stored": {"features": 0.1, "head": 0.2, "judging": 0.3},
        "live": {"features": 1.0, "head": 0.2, "judging": 0.3},
    }
    text = text_of({"seconds per sample": {"beams": seconds}})
    row = "0.100 | 0.200 | 0.300 | 1.000 | 0.200 | 0.300 | 0.100 | 0.250 | 0.400 |"
    assert f"| beams | {row}" in text
    assert f"| mean | {row}" in text
