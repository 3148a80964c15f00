"""Which part of the detector each key of a checkpoint belongs to, and which stage owns the part.

Our modules carry the official names, so a key of the official state dict is also ours, and the
table only says who owns it. Every key of a checkpoint belongs to exactly one part;
tests/upstream/test_state_dict_keys.py compares all of them with the official key lists.

Source: CMT, detectors/cmt.py; the order is that of the official state dict.
"""

from collections.abc import Iterable
from typing import Literal

Owner = Literal["frozen", "trainable"]

PARTS: dict[str, Owner] = {
    "pts_middle_encoder": "frozen",
    "pts_backbone": "frozen",
    "pts_neck": "trainable",
    "pts_bbox_head": "trainable",
    "img_backbone": "frozen",
    "img_neck": "trainable",
}
AQR_PARTS = ("pts_bbox_head.aqr_weight_generator", "pts_bbox_head.attention_bias_generator")
FROZEN_PARTS = tuple(part for part, owner in PARTS.items() if owner == "frozen")


def belongs(key: str, parts: Iterable[str]) -> bool:
    """Return whether a state-dict key is in one of these parts, or parts of parts."""
    return any(key.startswith(f"{part}.") for part in parts)


def part_of(key: str) -> str:
    """Return the part a state-dict key belongs to: what comes before its first dot."""
    return key.partition(".")[0]
