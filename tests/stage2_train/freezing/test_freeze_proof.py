"""A run that would change something frozen stops and names it."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cache.reader import CachedFeatures
from shared.errors import FrozenError
from shared.model.detector import CmtDetector
from stage2_train.freezing.freeze_proof import FreezeProof
from stage2_train.freezing.freeze_report import freeze_report, freeze_report_as_text
from stage2_train.freezing.freezing import freeze
from stage2_train.recipes.recipe import Recipe
from stage2_train.recipes.recipes import frozen_all
from stage2_train.run.run_folder import RunFolder
from stage2_train.training import assembly
from stage2_train.training.build import train
from stage2_train.training.loss_step import LossInput, LossStep
from stage2_train.training.optimizer import make_optimizer, parameter_groups
from stage2_train.training.queued_step import QueuedStep
from stage2_train.training.training_step import TrainingStep
from tests.stage2_train.training.test_training import recipe

NECKS_FROZEN = recipe(steps=4, checkpoint_every=2, frozen=("img_neck", "pts_neck"))


@pytest.fixture(scope="module")
def store(tiny_store: Path) -> CachedFeatures:
    return CachedFeatures(tiny_store)


def sabotage_forward(monkeypatch: pytest.MonkeyPatch, harm) -> None:  # type: ignore[no-untyped-def]
    """Sabotage the detector in the forward pass of every step."""
    honest = LossStep.forward

    def forward(self: LossStep, inputs: LossInput) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        harm(self.detector)
        return honest(self, inputs)

    monkeypatch.setattr(LossStep, "forward", forward)


def test_a_frozen_batch_norm_in_train_mode_stops_the_run(
    store: CachedFeatures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sabotage_forward(monkeypatch, lambda detector: detector.pts_neck.deblocks[1][1].train())

    with pytest.raises(FrozenError, match=r"frozen, but in train mode: pts_neck\.deblocks\.1\.1\."):
        train(store, NECKS_FROZEN, tmp_path / "run")


def test_a_frozen_parameter_that_gets_a_gradient_stops_the_run(
    store: CachedFeatures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sabotage_forward(monkeypatch, lambda detector: detector.img_neck.requires_grad_())

    with pytest.raises(FrozenError, match=r"frozen, but with requires_grad: img_neck\.lateral"):
        train(store, NECKS_FROZEN, tmp_path / "run")


def test_a_frozen_parameter_in_the_optimizer_stops_the_run(
    store: CachedFeatures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def greedy(detector: CmtDetector, chosen: Recipe, **options: bool) -> torch.optim.Optimizer:
        optimizer = make_optimizer(detector, chosen, **options)
        assert detector.img_neck is not None
        stray = next(detector.img_neck.parameters())
        optimizer.add_param_group({"params": [stray], "initial_lr": 0.1, "factor": 1.0})
        return optimizer

    monkeypatch.setattr(assembly, "make_optimizer", greedy)

    with pytest.raises(FrozenError, match=r"in the optimizer: img_neck\.lateral_convs\.0\.conv\."):
        train(store, NECKS_FROZEN, tmp_path / "run")


@pytest.mark.parametrize(
    "name", ["pts_neck.deblocks.0.1.running_mean", "img_neck.fpn_convs.0.conv.bias"]
)
def test_a_frozen_tensor_that_changes_stops_the_run_before_it_is_saved(
    store: CachedFeatures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    honest = TrainingStep.take

    def careless(self: TrainingStep, batches, whole, step: int) -> QueuedStep:  # type: ignore[no-untyped-def]
        if step == 2:
            self.raw_module.detector.state_dict()[name].view(-1)[0] += 1e-6
        return honest(self, batches, whole, step)

    monkeypatch.setattr(TrainingStep, "take", careless)

    with pytest.raises(FrozenError, match=rf"frozen, but changed: {name}\. "):
        train(store, NECKS_FROZEN, tmp_path / "run")

    saved = RunFolder(tmp_path / "run").load()
    assert saved is not None
    assert saved["step"] == 2


def test_a_run_whose_checkpoint_has_different_frozen_weights_is_not_resumed(
    store: CachedFeatures, tmp_path: Path
) -> None:
    train(store, NECKS_FROZEN, tmp_path / "run", stop_after=1)
    folder = RunFolder(tmp_path / "run")
    saved = folder.load()
    assert saved is not None
    saved["state_dict"]["img_neck.fpn_convs.0.conv.bias"][0] += 1
    folder.save_progress(saved)

    with pytest.raises(FrozenError, match=r"changed: img_neck\.fpn_convs\.0\.conv\.bias"):
        train(store, NECKS_FROZEN, tmp_path / "run")


def test_frozen_necks_keep_every_byte_and_the_rest_learns(
    store: CachedFeatures, tmp_path: Path
) -> None:
    untrained = train(store, NECKS_FROZEN, tmp_path / "start", stop_after=0)
    train(store, NECKS_FROZEN, tmp_path / "run")

    before, after = (RunFolder(tmp_path / name).load() for name in ("start", "run"))
    assert untrained["steps"] == 0
    assert before is not None
    assert after is not None
    changed = {
        name.partition(".")[0]
        for name, values in before["state_dict"].items()
        if not torch.equal(values, after["state_dict"][name])
    }
    assert changed == {"pts_bbox_head"}


class Backbone(nn.Module):
    """Any module will do: the proof does not depend on the detector."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        self.head = nn.Linear(3, 5)
        self.stem.register_buffer("scratch", torch.zeros(2), persistent=False)


@pytest.fixture
def proof() -> FreezeProof:
    module = Backbone()
    freeze(module, ["stem"])
    return FreezeProof(module, ["stem"], torch.optim.AdamW(parameter_groups(module, (), 0.1)))


def test_an_honest_step_passes(proof: FreezeProof) -> None:
    module = proof.module
    assert isinstance(module, Backbone)
    module.head(module.stem(torch.ones(4, 2))).sum().backward()
    proof.check_flags()
    proof.optimizer.step()
    proof.check_bytes()


def test_a_gradient_on_a_frozen_parameter_is_noticed(proof: FreezeProof) -> None:
    module = proof.module
    assert isinstance(module, Backbone)
    module.stem[0].bias.grad = torch.zeros(3)

    with pytest.raises(FrozenError, match=r"with a gradient: stem\.0\.bias\. "):
        proof.check_flags()


def test_a_buffer_that_no_checkpoint_holds_is_frozen_too(proof: FreezeProof) -> None:
    proof.module.get_buffer("stem.scratch").fill_(1)

    with pytest.raises(FrozenError, match=r"changed: stem\.scratch\. "):
        proof.check_bytes()


def test_a_frozen_tensor_that_disappears_has_changed(proof: FreezeProof) -> None:
    module = proof.module
    assert isinstance(module, Backbone)
    del module.stem[1]

    with pytest.raises(FrozenError, match=r"changed: stem\.1\.weight, stem\.1\.bias"):
        proof.check_bytes()


def test_what_is_not_frozen_may_change(proof: FreezeProof) -> None:
    with torch.no_grad():
        proof.module.get_parameter("head.bias").add_(1)
    proof.module.get_submodule("head").train()

    proof.check_flags()
    proof.check_bytes()


def test_the_report_counts_parameters_bytes_rates_and_modes() -> None:
    module = Backbone()
    freeze(module, ["stem"])
    optimizer = torch.optim.AdamW(parameter_groups(module, (("bias", 0.5),), 0.1))

    report = {row["part"]: row for row in freeze_report(module, optimizer)}

    assert report["stem.1"] == {
        "part": "stem.1",
        "trained": 0,
        "frozen": 6,
        "mb": 0.0,  # 12 float32 and a counter of 8 bytes
        "learning_rates": [],
        "batch_norms": {"eval": 1, "train": 0},
    }
    assert report["stem.0"]["frozen"] == 2 * 3 + 3
    assert report["head"]["trained"] == 3 * 5 + 5
    assert report["head"]["learning_rates"] == pytest.approx([0.05, 0.1])
    assert "1 eval" in freeze_report_as_text([*report.values()])


def test_a_run_keeps_its_report_and_what_is_frozen_in_the_store(
    store: CachedFeatures, tmp_path: Path
) -> None:
    chosen = frozen_all()

    train(store, chosen, tmp_path / "run", stop_after=0)

    report = json.loads((tmp_path / "run" / "freezing.json").read_text())
    trained = {row["part"] for row in report["parts"] if row["trained"]}
    frozen = {row["part"] for row in report["parts"] if row["frozen"]}
    assert frozen == {"img_neck.lateral_convs", "img_neck.fpn_convs", "pts_neck.deblocks"}
    assert {"pts_bbox_head.transformer", "pts_bbox_head.shared_conv"} <= trained
    assert not trained & frozen
    assert report["backbones, in the store"] == store.identity["weights"]
