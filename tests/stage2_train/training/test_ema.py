"""The moving average of the weights, by hand, and where a run keeps it."""

from pathlib import Path

import torch
from torch import nn

from cache.reader import CachedFeatures
from stage2_train.run.run_folder import RunFolder
from stage2_train.run.trained_detector import load_detector
from stage2_train.training.build import train
from stage2_train.training.ema import ExponentialMovingAverage
from tests.stage2_train.training.test_training import recipe


def test_each_update_keeps_its_share_of_the_average() -> None:
    module = nn.BatchNorm1d(1)  # weight 1, running_mean 0
    averaged = ExponentialMovingAverage(module, decay=0.75)

    for weight in (5.0, 9.0):
        with torch.no_grad():
            module.weight.fill_(weight)
            module.running_mean.fill_(weight)
        averaged.update(module)

    # 1 -> 0.75 * 1 + 0.25 * 5 = 2 -> 0.75 * 2 + 0.25 * 9 = 3.75
    assert averaged.state()["weight"].tolist() == [3.75]
    assert averaged.state()["running_mean"].tolist() == [9.0]  # a buffer is the module's own


def test_a_resumed_run_has_the_average_of_an_undisturbed_one_and_is_evaluated_with_it(
    tiny_store: Path, tmp_path: Path
) -> None:
    store, averaging = CachedFeatures(tiny_store), recipe(steps=4, ema_decay=0.9)
    train(store, averaging, tmp_path / "whole")
    train(store, averaging, tmp_path / "parts", stop_after=2)
    train(store, averaging, tmp_path / "parts")

    whole, parts = RunFolder(tmp_path / "whole").load(), RunFolder(tmp_path / "parts").load()
    assert whole is not None
    assert parts is not None
    assert all(torch.equal(whole["ema"][name], parts["ema"][name]) for name in whole["ema"])
    assert whole["ema"].keys() == whole["state_dict"].keys()
    evaluated = load_detector(tmp_path / "whole", store).state_dict()
    assert all(torch.equal(evaluated[name], whole["ema"][name]) for name in evaluated)
    key = "pts_bbox_head.reference_points.weight"
    assert not torch.equal(whole["ema"][key], whole["state_dict"][key])
