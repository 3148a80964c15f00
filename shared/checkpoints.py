"""Reading checkpoints safely and loading parts of them strictly.

A checkpoint of the official code has `state_dict` at its top level, with the prefixes img_backbone,
img_neck, pts_middle_encoder, pts_backbone, pts_neck and pts_bbox_head; ours use the same names.
"""

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shared.errors import CheckpointError

LISTED_KEYS = 8  # keys shown per kind of mismatch; a wrong file has hundreds


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Load a checkpoint without executing anything in it.

    Returns:
        The file's top-level dictionary, tensors on the CPU.

    Raises:
        CheckpointError: if the file is missing, truncated, or needs code to be unpickled.
    """
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path} does not exist")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"checkpoint {path} holds more than tensors and plain values, and loading it would run "
            f"code from the file, so it was not loaded. Re-save it with only its `state_dict` on a "
            f"machine where you trust it. ({str(error).splitlines()[0]})"
        ) from error
    except (RuntimeError, EOFError, ValueError, OSError) as error:
        raise CheckpointError(
            f"checkpoint {path} ({path.stat().st_size} bytes) is not a readable torch file; it may "
            f"be truncated: copy or download it again. ({str(error).splitlines()[0]})"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"checkpoint {path} holds a {type(content).__name__}, expected a dictionary"
        )
    return content


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the state dict of a CMT checkpoint.

    Raises:
        CheckpointError: also if there is no `state_dict` in it.
    """
    content = read_checkpoint(path)
    state = content.get("state_dict")
    if not isinstance(state, Mapping):
        raise CheckpointError(
            f"checkpoint {path} has no `state_dict` at its top level (it has "
            f"{', '.join(map(str, list(content)[:LISTED_KEYS])) or 'nothing'}); expected a CMT "
            "checkpoint as the official code or `train-stage2` writes it"
        )
    return dict(state)


def load_parts(
    module: nn.Module, state: Mapping[str, Tensor], parts: Sequence[str], *, path: Path
) -> None:
    """Copy the named children's tensors from a state dict, all of them or none.

    Args:
        module: owner of the children.
        state: state dict with full names.
        parts: names of direct children, each a prefix of the keys to load.
        path: where `state` comes from, for messages.

    Raises:
        CheckpointError: listing every missing, unexpected or misshapen key.
    """
    own = {
        name: tensor
        for name, tensor in module.state_dict().items()
        if name.split(".", 1)[0] in parts
    }
    given = {name: tensor for name, tensor in state.items() if name.split(".", 1)[0] in parts}
    found = sorted({name.split(".", 1)[0] for name in state})
    absent = [part for part in parts if not any(name.startswith(f"{part}.") for name in given)]
    if absent:
        raise CheckpointError(
            f"checkpoint {path} has no {', '.join(absent)}; it holds "
            f"{', '.join(found) or 'nothing'}. Expected a complete CMT detector; a file with only "
            "an image backbone (nuim_r50.pth, fcos3d) initialises CMT's own training and cannot be "
            "used here"
        )
    problems = [
        *_listed("missing", sorted(own.keys() - given.keys())),
        *_listed("unexpected", sorted(given.keys() - own.keys())),
        *_listed(
            "of another shape",
            [
                f"{name} {tuple(given[name].shape)} instead of {tuple(own[name].shape)}"
                for name in sorted(own.keys() & given.keys())
                if given[name].shape != own[name].shape
            ],
        ),
    ]
    if problems:
        raise CheckpointError(
            f"checkpoint {path} does not fit {', '.join(parts)} of this preset: "
            + "; ".join(problems)
            + ". It was trained with another configuration; choose the preset that belongs to it"
        )
    # Upstream: spconv's own loading permutes weights when `_metadata` is lost; copying does not.
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(given[name])


def _listed(kind: str, keys: Sequence[str]) -> list[str]:
    """Return a one-line listing of keys, shortened, or nothing if there are none."""
    if not keys:
        return []
    more = f" and {len(keys) - LISTED_KEYS} more" if len(keys) > LISTED_KEYS else ""
    return [f"{len(keys)} {kind} ({', '.join(keys[:LISTED_KEYS])}{more})"]
