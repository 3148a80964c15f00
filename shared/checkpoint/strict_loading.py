"""Reading checkpoints without running code, and loading parts of them strictly.

A checkpoint of the official code has a `state_dict` at its top level, with the parts listed in
`shared.checkpoint.checkpoint_table`; ours use the same names.
"""

import pickle
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from shared.checkpoint.checkpoint_table import PARTS, belongs, part_of
from shared.checkpoint.shipped_checkpoint import require_as_shipped, require_existing
from shared.checkpoint.sparse_layout import in_our_layout
from shared.digests import state_digest
from shared.errors import CheckpointError
from shared.file_kinds import foreign_kind, is_safetensors

LISTED_KEYS = 8  # keys shown per kind of mismatch; a wrong file has hundreds

# How keys begin in a file that holds only an image backbone: as in CMT, as in mmdet, or with the
# bare names of ResNet and VoVNet.
IMAGE_ONLY = {
    *("img_backbone", "img_neck", "backbone"),
    *("conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc"),
    *("stem", "stage2", "stage3", "stage4", "stage5"),
}

# NumPy numbers in `meta` or `optimizer` (a seed, a score) are plain values, too. NumPy 1 and 2 name
# the function that rebuilds them differently; each dtype is a class of its own.
_scalar = np.float64(0).__reduce__()[0]
NUMPY_SCALARS: list[Any] = [
    (_scalar, "numpy.core.multiarray.scalar"),
    (_scalar, "numpy._core.multiarray.scalar"),
    np.dtype,
    *{type(np.dtype(kind)) for kind in np.typecodes["AllInteger"] + np.typecodes["Float"] + "?"},
]

UNPICKLED = re.compile(r"GLOBAL ([\w.]+)")  # in torch's message: what the file asks to import


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Load a checkpoint, of torch or safetensors, without executing anything in it.

    Returns:
        The file's top-level dictionary, tensors on the CPU; a safetensors file holds only tensors.

    Raises:
        CheckpointError: if the file is missing, truncated, not a checkpoint at all, or needs code
            to be unpickled.
    """
    if path.is_dir():
        raise CheckpointError(f"checkpoint {path} is a folder; name a file in it")
    require_existing(path)
    require_as_shipped(path)
    size = f"{path.stat().st_size} bytes"
    try:
        if is_safetensors(path):
            return dict(load_file(path))
        kind = foreign_kind(path)
    except SafetensorError as fault:
        raise CheckpointError(
            f"checkpoint {path} ({size}) begins as a safetensors file does, but is not a complete "
            f"one ({fault}); copy or download it again"
        ) from fault
    except OSError as fault:
        raise CheckpointError(f"checkpoint {path} cannot be read: {fault.strerror}") from fault
    if kind is not None:
        raise CheckpointError(f"checkpoint {path} ({size}) is not a torch file: it is {kind}")
    content = _torch_content(path)
    if not isinstance(content, dict):
        raise CheckpointError(
            f"checkpoint {path} holds a {type(content).__name__}, expected a dictionary"
        )
    return content


def _torch_content(path: Path) -> object:
    """Return what torch.load reads with `weights_only`; never its advice to do without."""
    try:
        with torch.serialization.safe_globals(NUMPY_SCALARS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as fault:
        needed = ", ".join(sorted(set(UNPICKLED.findall(str(fault)))))
        if isinstance(fault, pickle.UnpicklingError) and needed:
            raise CheckpointError(
                f"checkpoint {path} needs {needed} besides tensors and plain values, and loading "
                "that would run code from the file, so it was not loaded. Where it was made, save "
                'only its weights: torch.save({"state_dict": model.state_dict()}, FILE)'
            ) from fault
        raise CheckpointError(
            f"checkpoint {path} ({path.stat().st_size} bytes) is not a readable torch or "
            f"safetensors file ({type(fault).__name__}): it may be truncated, or of a different "
            "program; copy or download it again"
        ) from fault


def read_state(path: Path) -> Mapping[str, Tensor]:
    """Return the state dict of a CMT checkpoint as stored in the file, with its `_metadata`.

    Raises:
        CheckpointError: as `read_checkpoint`, and if the file has no `state_dict`.
    """
    content = read_checkpoint(path)
    state = content.get("state_dict")
    if isinstance(state, Mapping):
        return state
    if content and all(isinstance(value, Tensor) for value in content.values()):
        return content  # a bare state dict; loading it will say what is missing
    raise CheckpointError(
        f"checkpoint {path} has no `state_dict` at its top level (it has "
        f"{', '.join(map(str, list(content)[:LISTED_KEYS])) or 'nothing'}); expected a CMT "
        "checkpoint as the official code or `train-stage2` writes it"
    )


def part_digests(state: Mapping[str, Tensor], parts: Iterable[str], path: Path) -> dict[str, str]:
    """Digest parts of a checkpoint, as `FrozenBackbones.digests` does once they are loaded.

    Returns:
        Digest by part, without the parts that the checkpoint does not hold.
    """
    ours = in_our_layout(state, path)
    tensors: dict[str, dict[str, Tensor]] = {}
    for part in parts:
        for key, tensor in ours.items():
            if belongs(key, [part]):
                values = tensor.float() if tensor.is_floating_point() else tensor
                tensors.setdefault(part, {})[key.removeprefix(f"{part}.")] = values
    return {part: state_digest(own) for part, own in tensors.items()}


def other_backbones(
    state: Mapping[str, Tensor], wanted: Mapping[str, str], path: Path
) -> list[str]:
    """List the frozen parts in `state` whose digests differ from those in `wanted`.

    Only parts that are both in `wanted` and in the checkpoint are compared.
    """
    digests = part_digests(state, wanted, path)
    return [part for part, digest in digests.items() if digest != wanted[part]]


def load_parts(
    module: nn.Module,
    state: Mapping[str, Tensor],
    parts: Sequence[str],
    *,
    path: Path,
    without: Sequence[str] = (),
    fresh: Sequence[str] = (),
) -> None:
    """Copy the named parts' tensors from a state dict: all of them or, after an error, none.

    Args:
        module: owner of the parts.
        state: state dict with full names.
        parts: names of modules inside it, each a prefix of the keys to load.
        path: where `state` comes from, for messages.
        without: parts of these parts that the module does not have.
        fresh: parts of these parts that the state does not have; they stay as they are.

    Raises:
        CheckpointError: listing every missing, unexpected or misshapen key.
    """
    _require_parts(state, parts, path)
    state = in_our_layout(state, path)
    own = {
        name: tensor
        for name, tensor in module.state_dict().items()
        if belongs(name, parts) and not belongs(name, fresh)
    }
    stored = {
        name: tensor
        for name, tensor in state.items()
        if belongs(name, parts) and not belongs(name, without)
    }
    problems = [
        *_listed("missing", sorted(own.keys() - stored.keys())),
        *_listed("unexpected", sorted(stored.keys() - own.keys())),
        *_listed(
            "of a different shape",
            [
                f"{name} {tuple(stored[name].shape)} instead of {tuple(own[name].shape)}"
                for name in sorted(own.keys() & stored.keys())
                if stored[name].shape != own[name].shape
            ],
        ),
    ]
    if problems:
        raise CheckpointError(
            f"checkpoint {path} does not fit {', '.join(parts)} of this preset: "
            + "; ".join(problems)
            + ". It was trained with a different configuration, or with different code of the "
            "model; choose its own preset, or that code"
        )
    # Upstream: spconv's own loading permutes weights when `_metadata` is lost; copying does not.
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(stored[name])


def _require_parts(state: Mapping[str, Tensor], parts: Sequence[str], path: Path) -> None:
    """Raise unless the state has keys of every part; say what the file is instead."""
    present = {part_of(name) for name in state}
    absent = [part for part in parts if not any(belongs(name, [part]) for name in state)]
    if not absent:
        return
    if present and present <= IMAGE_ONLY:
        what = (
            "It holds only an image backbone, as nuim_r50.pth and the fcos3d VoVNet file do: those "
            "initialise CMT's own training and are not detectors"
        )
    elif present and present <= set(PARTS):
        what = "A detector of one sensor needs the preset of that sensor"
    else:
        what = "It is not a CMT detector, or its names were changed"
    raise CheckpointError(
        f"checkpoint {path} has no {', '.join(absent)}; it holds "
        f"{', '.join(sorted(present)[:LISTED_KEYS]) or 'nothing'}. {what}. Expected a complete CMT "
        "detector of this preset"
    )


def _listed(kind: str, keys: Sequence[str]) -> list[str]:
    """Return a one-line listing of the first keys, in a list; an empty list if there are none."""
    if not keys:
        return []
    more = f" and {len(keys) - LISTED_KEYS} more" if len(keys) > LISTED_KEYS else ""
    return [f"{len(keys)} {kind} ({', '.join(keys[:LISTED_KEYS])}{more})"]
