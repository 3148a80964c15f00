"""Run folders as `train-stage2` leaves them, without training."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RECIPE = {
    "name": "mine",
    "seed": 0,
    "learning_rate": 1e-4,
    "aqr": None,
    "lr_multipliers": [["img_neck", 0.05], ["transformer", 0.5]],
}


def write_run(
    folder: Path,
    *,
    losses: tuple[float, ...] = (8.0, 4.0, 2.0, 1.0),
    store: str = "a" * 64,
    start: str = "b" * 64,
    validation: str = "",
    scores: tuple[float, float] | None = None,
    results: dict[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    code: str = "",
    **recipe: Any,
) -> Path:
    """Write the folder of a finished run.

    Args:
        folder: to create.
        losses: of its steps.
        store: digest in config.json.
        start: digest of the weights it starts from.
        validation: content of validation.csv; "" for none.
        scores: mAP and NDS of its last validation.
        results: content of its detections.
        config: what config.json says besides.
        code: that made all its steps; "" for none recorded.
        recipe: fields that differ from `RECIPE`.
    """
    folder.mkdir(parents=True)
    whole = {"recipe": RECIPE | recipe, "store": store, "starting weights": start, **(config or {})}
    (folder / "config.json").write_text(json.dumps(whole))
    if code:
        (folder / "code.csv").write_text(f"step,code\n1,{code}\n")
    log = [f"{i + 1},{loss}" for i, loss in enumerate(losses)]
    (folder / "log.csv").write_text("\n".join(["step,loss", *log, ""]))
    times = [f"{i + 1},0.1,0.5" for i in range(len(losses))]
    (folder / "timing.csv").write_text("\n".join(["step,seconds/data,seconds/forward", *times, ""]))
    if validation:
        (folder / "validation.csv").write_text(validation)
    if results is not None or scores is not None:
        (folder / "validation").mkdir()
        (folder / "validation" / "results_nusc.json").write_text(json.dumps(results or {}))
    if scores is not None:
        summary = {"mean_ap": scores[0], "nd_score": scores[1]}
        (folder / "validation" / "metrics_summary.json").write_text(json.dumps(summary))
    return folder
