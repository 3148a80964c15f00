"""A run joined with the frozen parts of a checkpoint, as the official code saves a detector."""

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shared.checkpoint.checkpoint_table import PARTS, belongs, part_of
from shared.checkpoint.strict_loading import other_backbones, read_state
from shared.config.classes import CLASS_NAMES
from shared.errors import CheckpointError
from shared.process.whole_file import whole_file
from stage2_train.run.run_checkpoint import trained_weights

# Upstream: mmdet3d permutes a sparse weight on loading unless its module has version 2.
SPARSE_PART, SPARSE_VERSION = "pts_middle_encoder", 2
BATCH_NORM_VERSION = 2
BATCH_NORM_BUFFER = "num_batches_tracked"

Metadata = OrderedDict[str, dict[str, Any]]


def official_checkpoint(saved: Mapping[str, Any], source: Path) -> dict[str, Any]:
    """Return the contents of a checkpoint file of the official code.

    Args:
        saved: checkpoint of a run.
        source: checkpoint with the frozen parts.

    Raises:
        CheckpointError: if the run's features were not made with `source`.
    """
    official = read_state(source)
    wanted: dict[str, str] = saved["backbones"]
    frozen = {key: tensor for key, tensor in official.items() if belongs(key, wanted)}
    absent = {part for part in wanted if not any(belongs(key, [part]) for key in frozen)}
    differing = sorted(absent) or other_backbones(official, wanted, source)
    if differing:
        raise CheckpointError(
            f"{source} is not the checkpoint that the features of this run were made with "
            f"({'missing' if absent else 'different'}: {', '.join(differing)}). Name the right one "
            "with --checkpoint (`feature-cache show STORE` says where the weights came from)"
        )
    state = in_official_order({**frozen, **trained_weights(saved)})
    # A round trip must also restore the versions of modules, which torch keeps beside the keys.
    metadata = getattr(official, "_metadata", None) or synthesised_metadata(state)
    state._metadata = metadata  # type: ignore[attr-defined]
    return {
        "meta": {
            "CLASSES": CLASS_NAMES,
            "frozen_cmt": {key: saved[key] for key in ("preset", "step", "aqr")},
        },
        "state_dict": state,
    }


def in_official_order(state: Mapping[str, Tensor]) -> OrderedDict[str, Tensor]:
    """Return the state with its parts in the order of official files, unknown ones last."""
    order = [*PARTS, *{part_of(key): None for key in state if part_of(key) not in PARTS}]
    return OrderedDict((key, state[key]) for part in order for key in state if part_of(key) == part)


def synthesised_metadata(state: Mapping[str, Tensor]) -> Metadata:
    """Return the module versions of official checkpoints, from the names of the keys.

    Needed if the source has lost them: without, mmdet3d would permute every sparse weight.
    """
    metadata: Metadata = OrderedDict({"": {"version": 1}})
    for key in state:
        *modules, last = key.split(".")
        for depth in range(1, len(modules) + 1):
            is_sparse = modules[0] == SPARSE_PART and depth > 1
            version = SPARSE_VERSION if is_sparse else 1
            metadata.setdefault(".".join(modules[:depth]), {"version": version})
        if last == BATCH_NORM_BUFFER:
            metadata[".".join(modules)] = {"version": BATCH_NORM_VERSION}
    return metadata


def source_of(saved: Mapping[str, Any], run: Path, named: Path | None) -> Path:
    """Return the checkpoint to take the frozen parts from.

    Raises:
        CheckpointError: if none is named, and the run has recorded none or it has gone.
    """
    started_from = saved["started_from"]
    if named is None and started_from is None:
        raise CheckpointError(
            f"{run} was not started from a checkpoint, so it has no record of the frozen "
            "backbones; name the checkpoint that the store was extracted with: --checkpoint FILE. "
            "(Seeded backbones are in no file: they are for demos and cannot be exported)"
        )
    if named is None and not Path(started_from).exists():
        raise CheckpointError(
            f"{run} was started from {started_from}, which is not there any more; if it was moved, "
            "name it with --checkpoint"
        )
    return named or Path(started_from)


def write_checkpoint(content: Mapping[str, Any], out: Path) -> None:
    """Write a file, atomically.

    Raises:
        CheckpointError: if the disk is full, for example.
    """
    try:
        with whole_file(out) as file:
            torch.save(dict(content), file)
    except OSError as error:
        raise CheckpointError(f"{out} cannot be written: {error}") from error
