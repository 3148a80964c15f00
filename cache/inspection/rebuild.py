"""An explanation of which arrays would have to be extracted anew for a different identity."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

from cache.format.identity import differing_fields, explain_difference
from cache.format.schema import CAMERA_MATRICES
from shared.config.cut import parse_cut

CAMERA, LIDAR, EVERYTHING = ("camera/*",), ("lidar/*",), ("*",)


@dataclass(frozen=True, kw_only=True, slots=True)
class Scope:
    """What a difference affects.

    Args:
        arrays: patterns of array names.
        rows: which rows of them; empty means all.
    """

    arrays: tuple[str, ...]
    rows: str = ""

    def __str__(self) -> str:
        names = "every array" if self.arrays == EVERYTHING else ", ".join(self.arrays)
        return f"{names}, {self.rows}" if self.rows else names


# The longest matching prefix of a field counts; a field that is not here affects everything.
SCOPES = {
    "variants": Scope(arrays=EVERYTHING, rows="but only the variants that one of the two lacks"),
    "variant_seed": Scope(arrays=EVERYTHING, rows="but not variant 0"),
    "augmentation": Scope(arrays=EVERYTHING, rows="but not variant 0"),
    "preset.camera": Scope(arrays=(*CAMERA, CAMERA_MATRICES)),
    "preset.lidar": Scope(arrays=LIDAR),
    "preset.grid": Scope(arrays=LIDAR),
    "preset.head": Scope(arrays=(*CAMERA, *LIDAR)),
    "preset.head.bev_neck_channels": Scope(arrays=LIDAR),
    "value_format": Scope(arrays=(*CAMERA, *LIDAR)),
    "precision": Scope(arrays=(*CAMERA, *LIDAR)),
    "weights.img_": Scope(arrays=CAMERA),
    "weights.pts_": Scope(arrays=LIDAR),
    "dataset.tokens": Scope(arrays=EVERYTHING, rows="but only samples that one of the two lacks"),
}


def scope_of(field: str, mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> Scope:
    """Return what a difference in a field of two identities affects."""
    if field == "cut" and {"cut"} <= mine.keys() & theirs.keys():
        my_cut, their_cut = parse_cut(mine["cut"]), parse_cut(theirs["cut"])
        return Scope(
            arrays=(
                *(CAMERA if my_cut.camera != their_cut.camera else ()),
                *(LIDAR if my_cut.lidar != their_cut.lidar else ()),
            )
        )
    known = [start for start in SCOPES if field.startswith(start)]
    return SCOPES[max(known, key=len)] if known else Scope(arrays=EVERYTHING)


def explain_rebuild(
    mine: Mapping[str, Any],
    theirs: Mapping[str, Any],
    arrays: tuple[str, ...],
    *,
    names: tuple[str, str],
) -> list[str]:
    """Return the differences, what each affects, and what they leave as it is.

    Args:
        mine: the identity of a store, or a section of it.
        theirs: the identity to compare with, or the same section of it.
        arrays: names of the store's arrays.
        names: how to refer to the two.
    """
    lines = []
    scopes = [scope_of(field, mine, theirs) for field in differing_fields(mine, theirs)]
    for line, scope in zip(explain_difference(mine, theirs, names=names), scopes, strict=True):
        lines += [line, f"    to extract anew: {scope}"]
    affected = {
        name
        for name in arrays
        if any(fnmatch(name, pattern) for scope in scopes for pattern in scope.arrays)
    }
    if scopes and len(affected) < len(arrays):
        lines.append(f"the same in both: {', '.join(_grouped(arrays, affected))}")
    return lines


def _grouped(arrays: tuple[str, ...], affected: set[str]) -> list[str]:
    """Return the names of the arrays that are not affected, a whole group as "geometry/*"."""
    broken = {name.partition("/")[0] for name in affected}
    same: dict[str, None] = {}
    for name in arrays:
        group = name.partition("/")[0]
        if name not in affected:
            same[name if group in broken else f"{group}/*"] = None
    return list(same)
