"""The recorded run in which best by NDS is not best by loss, and how it is summarised."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.experiments.best_detector import EVERY, RESULTS, summary
from stage2_train.run.run_checkpoint import REQUIRED


def test_in_the_recorded_run_the_best_by_nds_is_kept_and_the_losses_point_elsewhere(
    pytestconfig: pytest.Config,
) -> None:
    recorded = json.loads((pytestconfig.rootpath / RESULTS).read_text())
    by_nds = max(recorded["curve"], key=lambda row: row["NDS"])

    assert by_nds["step"] == recorded["best.pt"] == recorded["best step by"]["NDS"]
    for loss in ("training_loss", "validation_loss"):
        assert min(recorded["curve"], key=lambda row: row[loss])["step"] != by_nds["step"]
    assert recorded["best.json"]["NDS"] == by_nds["NDS"]


def write_table(file: Path, rows: Sequence[dict[str, float]]) -> None:
    with file.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, [*rows[0]])
        writer.writeheader()
        writer.writerows(rows)


def test_a_summary_names_the_best_step_by_each_measure(tmp_path: Path) -> None:
    losses = [9.0] * EVERY + [5.0] * EVERY + [6.0] * EVERY
    write_table(
        tmp_path / "log.csv", [{"step": i + 1, "loss": loss} for i, loss in enumerate(losses)]
    )
    measured = [(3.0, 0.4, 0.1), (4.0, 0.2, 0.2), (5.0, 0.3, 0.6)]
    write_table(
        tmp_path / "validation.csv",
        [
            {"step": (i + 1) * EVERY, "loss": loss, "mAP": mean_ap, "NDS": nds, "seconds": i}
            for i, (loss, mean_ap, nds) in enumerate(measured)
        ],
    )
    torch.save(dict.fromkeys(REQUIRED) | {"step": 3 * EVERY}, tmp_path / "best.pt")
    (tmp_path / "best.json").write_text('{"NDS": 0.6}')

    document: dict[str, Any] = summary(tmp_path)

    assert document["best step by"] == {
        "training loss": 2 * EVERY,
        "validation loss": EVERY,
        "mAP": EVERY,
        "NDS": 3 * EVERY,
    }
    assert document["best.pt"] == 3 * EVERY
    assert [row["training_loss"] for row in document["curve"]] == [9.0, 5.0, 6.0]
    assert document["seconds per validation"] == 1.0
