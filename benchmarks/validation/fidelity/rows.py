"""Shared by the fidelity steps: the real frames, a running difference, and a table row."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from benchmarks.markdown import table
from shared.config.preset import CameraBranch, Preset
from shared.config.preset_catalogue import r50_800x320, vov_1600x640
from stage1_extract.nuscenes.info_files import read_infos
from stage1_extract.nuscenes.records import SampleRecord
from stage1_extract.nuscenes.safe_pickle import load_pickle

PRESETS = (r50_800x320(), vov_1600x640())
COUNTED, MANY = 0.01, 10_000  # a smaller share, or a share of fewer, is printed as a number
INFOS = Path("infos/real_complete.v1.pkl")
TOKENS = ("3950bd41f74548429c0f7700ff3d8269", "ca9a282c9e77460f8360f564131a8af5")


@dataclass(frozen=True, kw_only=True, slots=True)
class RealFrame:
    """One real nuScenes keyframe.

    Args:
        record: what stage 1 reads of it.
        info: the v1 info that the record was made from, for the other library.
    """

    record: SampleRecord
    info: dict[str, Any]


def real_frames(root: Path) -> list[RealFrame]:
    """Return the two frames that are compared: with two sweeps, and without sweeps."""
    infos = {info["token"]: info for info in load_pickle(root / INFOS)["infos"]}
    records = {record.token: record for record in read_infos(root / INFOS, root)}
    return [RealFrame(record=records[token], info=infos[token]) for token in TOKENS]


def camera_of(preset: Preset) -> CameraBranch:
    """Return a preset's camera branch."""
    assert preset.camera is not None
    return preset.camera


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A comparison.

    Args:
        step: of preprocessing.
        ours, against: the two sides.
        what: the quantity that differs, and its unit.
        largest, mean: difference; None in a row that only counts.
        count, of: how many values differ, or are counted, of how many.
        remark: the reason.
    """

    step: str
    ours: str
    against: str
    what: str
    largest: float | None
    mean: float | None
    count: int
    of: int
    remark: str


class Gap:
    """The difference of two sets of numbers, accumulated array by array."""

    def __init__(self) -> None:
        self.largest = 0.0
        self.total = 0.0
        self.differing = 0
        self.of = 0

    def add(self, ours: ArrayLike, theirs: ArrayLike) -> None:
        """Add two arrays of equal shape; NaN on both sides is no difference.

        Raises:
            ValueError: if the shapes differ.
        """
        left, right = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
        if left.shape != right.shape:
            raise ValueError(f"ours is {left.shape}, theirs is {right.shape}")
        distance = np.abs(left - right)
        distance[np.isnan(left) & np.isnan(right)] = 0
        # np.maximum, because Python's max() would lose a NaN
        self.largest = float(np.maximum(self.largest, distance.max(initial=0.0)))
        self.total += float(distance.sum())
        self.differing += int((distance != 0).sum())
        self.of += distance.size

    def row(self, step: str, ours: str, against: str, what: str, remark: str = "") -> Row:
        """Return the accumulated difference as a table row."""
        return Row(
            step=step,
            ours=ours,
            against=against,
            what=what,
            largest=self.largest,
            mean=self.total / self.of if self.of else 0.0,
            count=self.differing,
            of=self.of,
            remark=remark,
        )


def counted(step: str, ours: str, against: str, what: str, count: int, of: int, remark: str) -> Row:
    """Return a row that only counts."""
    return Row(
        step=step,
        ours=ours,
        against=against,
        what=what,
        largest=None,
        mean=None,
        count=count,
        of=of,
        remark=remark,
    )


def gap_of(ours: ArrayLike, theirs: ArrayLike) -> Gap:
    """Return the difference of two arrays."""
    gap = Gap()
    gap.add(ours, theirs)
    return gap


def markdown(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    heads = ("step", "ours", "compared with", "what differs (unit)", "largest", "mean, count")
    lines = []
    for row in rows:
        largest = "" if row.largest is None else _number(row.largest)
        few = row.of < MANY or row.count < COUNTED * row.of
        count = f"{row.count:,}" if few else f"{row.count / row.of:.0%}"
        count += f" of {row.of:,}"
        spread = f"{_number(row.mean)}; {count}" if row.mean and row.largest else count
        lines.append((row.step, row.ours, row.against, row.what, largest, spread, row.remark))
    return table((*heads, "remark"), lines)


def _number(value: float) -> str:
    return f"{value:.0f}" if value == round(value) and value < 1e6 else f"{value:.2g}"
