"""An exponential moving average of the weights, which often detects better than the last ones."""

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class ExponentialMovingAverage:
    """The average of a module's parameters; buffers are the module's own.

    Args:
        module: its present weights are the first average.
        decay: share of the average that each update keeps.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        self._model = AveragedModel(module, multi_avg_fn=average)
        self._model.n_averaged.fill_(1)  # at 0 the first update would replace the average

    def update(self, module: nn.Module) -> None:
        """Include the module's weights in the average."""
        self._model.update_parameters(module)

    def state(self) -> dict[str, Any]:
        """Return the average as a state dict of the module."""
        return self._model.module.state_dict()

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from an average that `state` returned."""
        self._model.module.load_state_dict(state)
