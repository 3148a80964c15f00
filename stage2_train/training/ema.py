"""An exponential moving average of the weights, which often detects better than the last ones."""

import copy
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

_Module = TypeVar("_Module", bound=nn.Module)


class ExponentialMovingAverage(Generic[_Module]):
    """The average of a module's parameters; buffers are the module's own.

    `average` is a module like the one averaged.

    Args:
        module: its present weights are the first average.
        decay: share of the average that each update keeps.
    """

    def __init__(self, module: _Module, decay: float) -> None:
        self.average = copy.deepcopy(module)
        self._decay = decay

    @torch.no_grad()
    def update(self, module: nn.Module, was_skipped: Tensor | None = None) -> None:
        """Include the module's weights in the average.

        Args:
            module: with its present weights.
            was_skipped: () on the device, 1 if the step has changed nothing, so that there is
                nothing to include; None if that cannot be.
        """
        average: list[Tensor] = [*self.average.parameters()]
        weights: list[Tensor] = [*module.parameters()]
        if was_skipped is None:
            torch._foreach_lerp_(average, weights, 1 - self._decay)
        else:
            change = torch._foreach_sub(weights, average)
            torch._foreach_mul_(change, (1 - self._decay) * (1 - was_skipped))
            torch._foreach_add_(average, change)
        torch._foreach_copy_([*self.average.buffers()], [*module.buffers()])

    def state(self) -> dict[str, Any]:
        """Return the average as a state dict of the module."""
        return self.average.state_dict()

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from an average that `state` returned."""
        self.average.load_state_dict(state)
