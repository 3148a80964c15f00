"""Shows that what a run freezes stays what it is, to the byte, and stops it where it does not.

Setting a learning rate of 0 freezes nothing: weight decay and BatchNorm go on. So flags are looked
at in every step, and bytes, which cost a pass over the weights, at every checkpoint.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from shared.checkpoint.checkpoint_table import belongs
from shared.digests import array_digest
from shared.errors import FrozenError
from stage2_train.freezing.freezing import modules_of

LISTED = 5  # names in a message


class FreezeProof:
    """What is frozen in a module, as it was when this was made.

    Args:
        module: any module.
        parts: beginnings of the names in it that are frozen.
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
        modes = {name: one.training for name, one in modules_of(self.module, self.parts)}
        trained = {id(one) for group in self.optimizer.param_groups for one in group["params"]}
        parameters = [
            (name, one) for name, one in self.module.named_parameters() if belongs(name, self.parts)
        ]
        for what, names in (
            ("in train mode", [name for name, training in modes.items() if training]),
            ("with requires_grad", [name for name, one in parameters if one.requires_grad]),
            ("with a gradient", [name for name, one in parameters if one.grad is not None]),
            ("in the optimizer", [name for name, one in parameters if id(one) in trained]),
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
        """Return the digest of each frozen tensor; buffers that are not saved are frozen, too."""
        tensors = (*self.module.named_parameters(), *self.module.named_buffers())
        return {name: _digest(one) for name, one in tensors if belongs(name, self.parts)}


def _require_none(what: str, names: Sequence[str]) -> None:
    if names:
        more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
        raise FrozenError(
            f"frozen, but {what}: {', '.join(names[:LISTED])}{more}. What this run trains is not "
            "what its recipe says; its last checkpoint is from before this was seen. Find the code "
            "that touches it, or take it out of the recipe's `frozen`"
        )


def _digest(tensor: Tensor) -> str:
    return array_digest(tensor.detach().cpu().numpy())
