"""Proves that what a run freezes does not change, to the byte, and stops the run if it does.

A learning rate of 0 freezes nothing: weight decay and BatchNorm still act. So flags are checked in
every step, and bytes, which take a pass over the weights, at every checkpoint.
"""

from collections.abc import Sequence

import torch
from torch import nn

from shared.checkpoint.checkpoint_table import belongs
from shared.digests import array_digest
from shared.errors import FrozenError
from stage2_train.freezing.freezing import modules_of

LISTED = 5  # names in a message


class FreezeProof:
    """What is frozen in a module, as it was when this object was made.

    Args:
        module: any module.
        parts: what is frozen, as beginnings of names.
        optimizer: of the run.
    """

    def __init__(
        self, module: nn.Module, parts: Sequence[str], optimizer: torch.optim.Optimizer
    ) -> None:
        self.module = module
        self.parts = tuple(parts)
        self.optimizer = optimizer
        self.digests = self._digests()

    def check_flags(self) -> None:
        """Check gradients, modes and the optimizer; call it between backward and update.

        Raises:
            FrozenError: naming what is wrong.
        """
        modes = {name: part.training for name, part in modules_of(self.module, self.parts)}
        trained = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        frozen = [
            (name, p) for name, p in self.module.named_parameters() if belongs(name, self.parts)
        ]
        for what, names in (
            ("in train mode", [name for name, training in modes.items() if training]),
            ("with requires_grad", [name for name, p in frozen if p.requires_grad]),
            ("with a gradient", [name for name, p in frozen if p.grad is not None]),
            ("in the optimizer", [name for name, p in frozen if id(p) in trained]),
        ):
            _require_none(what, names)

    def check_bytes(self) -> None:
        """Check that every frozen parameter and buffer has the bytes it started with.

        Raises:
            FrozenError: naming what changed.
        """
        now = self._digests()
        _require_none("changed", [n for n, digest in self.digests.items() if now.get(n) != digest])

    def _digests(self) -> dict[str, str]:
        """Return the digest of each frozen tensor, of buffers that are not saved, too."""
        tensors = (*self.module.named_parameters(), *self.module.named_buffers())
        return {
            name: array_digest(tensor.detach().cpu().numpy())
            for name, tensor in tensors
            if belongs(name, self.parts)
        }


def _require_none(what: str, names: Sequence[str]) -> None:
    if names:
        more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
        raise FrozenError(
            f"frozen, but {what}: {', '.join(names[:LISTED])}{more}. This run does not train "
            "what its recipe says; its last checkpoint was saved before. Find the code that "
            "changes it, or remove it from the recipe's `frozen`"
        )
