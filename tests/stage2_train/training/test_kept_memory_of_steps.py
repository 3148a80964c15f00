"""On a CPU, the memory of a step of training or evaluation serves the next one."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from shared.errors import CacheError, ConfigError
from stage2_train import store_evaluation
from stage2_train.recipes.recipes import load_recipe
from stage2_train.training import assembly


class Incomplete:
    """A store that is refused as soon as it is looked at."""

    def require_complete(self) -> None:
        raise CacheError("incomplete")


def train(device: torch.device, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start to train, into what is no folder."""
    started = SimpleNamespace(device=device), None
    monkeypatch.setattr(assembly, "launch_fabric", lambda *_, **__: started)
    unused: Any = None
    with pytest.raises(ConfigError):
        assembly.train_batches(unused, unused, load_recipe("frozen_a"), file, samples="", origin={})


def evaluate(device: torch.device, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start to evaluate what cannot be."""
    monkeypatch.setattr(store_evaluation, "available_device", lambda: device)
    incomplete, unused = Incomplete(), None
    with pytest.raises(CacheError):
        store_evaluation.evaluate(incomplete, unused, file)  # type: ignore[arg-type]


@pytest.mark.parametrize(("start", "module"), [(train, assembly), (evaluate, store_evaluation)])
@pytest.mark.parametrize(("kind", "times"), [("cpu", 1), ("cuda", 0)])
def test_freed_memory_is_kept_where_a_cpu_computes(
    start: Any, module: Any, kind: str, times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[None] = []
    monkeypatch.setattr(module, "keep_freed_memory", lambda: calls.append(None))
    (tmp_path / "file").touch()
    start(torch.device(kind), tmp_path / "file", monkeypatch)
    assert len(calls) == times
