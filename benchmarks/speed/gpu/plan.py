"""Which sections are measured for which preset, and how the time is shared out."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

R50, VOV = "r50_800x320", "vov_1600x640"
# Shares of the time, in the order of measurement: what the goals are about comes first.
SHARES = {
    (R50, "attention"): 40,
    (R50, "steps"): 130,
    (R50, "start"): 70,
    (R50, "loader"): 25,
    (R50, "live"): 60,
    (VOV, "attention"): 45,
    (VOV, "steps"): 70,
    (VOV, "live"): 60,
    (VOV, "loader"): 15,
}
OTHER_SHARE = 40
SECTION_NAMES = ("attention", "steps", "start", "loader", "live")


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """A section of a preset.

    Args:
        preset: its name.
        section: its name.
        share: of the time, relative to the others.
    """

    preset: str
    section: str
    share: float


def plan(presets: Sequence[str], sections: Sequence[str]) -> list[Planned]:
    """Return what to measure, in order; starting is measured for the first preset only."""
    return [
        Planned(preset=preset, section=section, share=SHARES.get((preset, section), OTHER_SHARE))
        for preset in presets
        for section in sorted(sections, key=lambda name: _rank(preset, name))
        if section != "start" or preset == presets[0]
    ]


def limit_s(planned: Sequence[Planned], deadline: float) -> float:
    """Return the seconds of the first of these sections; what others left unused is shared out."""
    left = max(0.0, deadline - time.monotonic())
    return left * planned[0].share / sum(section.share for section in planned)


def _rank(preset: str, section: str) -> int:
    pair = (preset, section)
    known = list(SHARES)
    return known.index(pair) if pair in known else len(known) + SECTION_NAMES.index(section)
