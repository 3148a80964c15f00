"""Necks and head belong to the backbones they were trained on: the check before they are joined."""

from pathlib import Path

from cache.reader import CachedFeatures
from shared.checkpoints import other_backbones, read_state
from shared.errors import IdentityError


def require_backbones(checkpoint: Path, store: CachedFeatures) -> None:
    """Check that the store's features come from the backbones in this checkpoint.

    A checkpoint without backbones, such as those of `train-stage2`, has nothing to compare.

    Raises:
        IdentityError: naming the parts that differ.
    """
    others = other_backbones(read_state(checkpoint), store.identity["weights"], checkpoint)
    if others:
        raise IdentityError(
            f"{store.path} was not made with {checkpoint}: {', '.join(others)} differ, so the "
            "necks and head in it have never seen such features; use the checkpoint that the store "
            f"was extracted with ({store.provenance.weights}), or extract again with this one"
        )
