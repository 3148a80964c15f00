"""A picture of a frame under a condition: images and points as recorded, and as it makes them."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from shared.config.classes import CAMERAS, LIDAR
from shared.plots.camera_grid import CAMERA_COLUMNS, CAMERA_ROWS
from stage1_extract.conditions.apply_condition import SampleChanges, changed_poses
from stage1_extract.conditions.sample_edits import StuckAt
from stage1_extract.conditions.stuck_sensors import stuck_record
from stage1_extract.nuscenes.records import SampleRecord
from stage1_extract.plots.plot_scene import TRUE_COLOUR, PlottedBoxes, draw_sensors


def plot_condition(changes: SampleChanges, records: Mapping[str, SampleRecord], path: Path) -> None:
    """Write the picture: above as recorded, below under the condition, with the true boxes.

    Args:
        changes: what the condition does to the frame.
        records: all frames by token, for stuck sensors.
        path: of the PNG.
    """
    matplotlib.use("Agg")
    record, condition = changes.record, changes.condition
    conditioned = changed_poses(condition, stuck_record(record, changes.edits, records))
    shown = record.annotations.labels >= 0
    boxes = record.annotations.boxes_lidar[shown].astype(np.float64)
    kinds = [PlottedBoxes(boxes_lidar=boxes, colour=TRUE_COLOUR)]
    figure = Figure(figsize=(22, 14.6), layout="constrained", facecolor="white")
    halves = figure.add_gridspec(2, 1)
    above, below = (figure.add_subfigure(halves[row, 0]) for row in (0, 1))
    for part, frame, what in ((above, record, None), (below, conditioned, changes)):
        grid = part.add_gridspec(CAMERA_ROWS, CAMERA_COLUMNS + 1, width_ratios=(1.6, 1.6, 1.6, 1.9))
        draw_sensors(part, grid, frame, kinds, what)
    above.suptitle(f"{record.scene}  {record.token}: as recorded", fontsize=11)
    below.suptitle(f"{condition.name}: {describe_changes(changes)}", fontsize=11)
    figure.savefig(path, dpi=60)


def describe_changes(changes: SampleChanges) -> str:
    """Say in a line what happens to which sensor of a frame."""
    edits = changes.edits
    by_edit: dict[str, list[str]] = {}
    sensors = {LIDAR: edits.lidar, **edits.cameras}
    for sensor, edit in sensors.items():
        if edit is not None:
            text = f"stuck at {edit.token}" if isinstance(edit, StuckAt) else edit.value
            by_edit.setdefault(text, []).append(sensor)
    parts = [
        f"{'all cameras' if len(names) == len(CAMERAS) else ', '.join(names)} {text}"
        for text, names in by_edit.items()
    ]
    if changes.condition.camera_poses is not None:
        parts.append("calibration of the cameras changed")
    return "; ".join(parts) or "no sensor of this frame is touched"
