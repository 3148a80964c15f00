"""A training step is a step of plain torch: its losses, clipping, weight decay, rates and scale.

The twin below uses nothing of stage2_train.training but the denoising noise. Moments are compared
besides weights, because AdamW moves weights equally far whatever the scale of the gradients.
"""

from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor, nn

from shared.config.preset import Preset
from shared.data.batch import Batch
from shared.data.ground_truth import GroundTruth
from shared.model.detector import CmtDetector
from shared.model.initial_detector import fresh_detector
from shared.model.losses import detection_losses
from stage2_train.recipes.recipe import Recipe
from stage2_train.training.global_batch import GlobalBatch
from tests.stage2_train.training.synthetic_batches import random_batch, small, take, training_step

STEPS = 3
# Relative to the largest value of a tensor: ours may add up gradients and norms in another order.
ROUNDING = 1e-5
WAY = 1e-3  # of how far weights move: a last bit of the weights is that much of it
HALF = 2e-3  # the same, where a last bit of float16 may turn out otherwise
# Its true gradient is zero (see test_training_golden), so that its moments are rounding.
TRULY_ZERO = "pts_bbox_head.transformer.decoder.layers.0.attentions.0.attn.in_proj_weight"
FACTORS = {"reference_points": 0.1, "task_heads": 2.0}
FROZEN = "img_neck"
BOXES = (2, 3)

# Every number differs from torch's default and from the recipe's. The norm of these gradients is
# some hundreds, so that clipping decides.
RECIPE = Recipe(
    name="compared",
    steps=1000,
    batch_size=2,
    learning_rate=3e-4,
    weight_decay=0.3,
    lr_multipliers=tuple(FACTORS.items()),
    clip_norm=0.5,
    frozen=(FROZEN,),
    schedule="cosine",
    warmup_steps=4,
    precision="32-true",
    seed=5,
)


@dataclass
class PlainTorch:
    """What STEPS steps of plain torch lead to."""

    detector: CmtDetector
    optimizer: torch.optim.AdamW
    scale: float | None
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)

    def moments(self) -> dict[str, dict[str, Tensor]]:
        return moments(self.detector, self.optimizer)


def moments(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Tensor]]:
    """Return AdamW's state of every parameter by its name."""
    return {name: optimizer.state[p] for name, p in module.named_parameters() if p.requires_grad}


def total_of(detector: CmtDetector, batch: Batch, preset: Preset, step: int) -> Tensor:
    seed = RECIPE.seed * 1_000_003 + step
    queries = GlobalBatch(box_counts=BOXES).denoising(batch, 0, preset, seed)
    truth = GroundTruth.of(batch.boxes_lidar, batch.labels)
    losses = detection_losses(detector(batch, queries), truth, preset.head, denoising=queries)
    return torch.stack([*losses.values()]).sum()


def plain_torch(batch: Batch, preset: Preset, recipe: Recipe, scale: float | None) -> PlainTorch:
    """Train as a short script would.

    Args:
        batch: the same in every step.
        preset: of the detector.
        recipe: says the numbers.
        scale: first scale of float16 gradients; None trains in float32.
    """
    detector = fresh_detector(preset, seed=recipe.seed).train()
    detector.img_neck.requires_grad_(False).eval()  # type: ignore[union-attr]
    trained = {name: p for name, p in detector.named_parameters() if p.requires_grad}
    factors = {
        name: next((f for key, f in FACTORS.items() if key in name), 1.0) for name in trained
    }
    assert set(factors.values()) == {0.1, 1.0, 2.0}
    optimizer = torch.optim.AdamW(
        [{"params": [p], "factor": factors[name]} for name, p in trained.items()],
        weight_decay=recipe.weight_decay,
    )
    scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale is not None)
    done = PlainTorch(detector, optimizer, scale)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * group["factor"] * (step + 1) / recipe.warmup_steps
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.float16, enabled=scale is not None):
            loss = total_of(detector, batch, preset, step)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        norm = torch.nn.utils.clip_grad_norm_(trained.values(), recipe.clip_norm)
        scaler.step(optimizer)
        scaler.update()
        done.losses.append(loss.item())
        done.norms.append(norm.item())
    done.scale = None if scale is None else scaler.get_scale()
    return done


def assert_near(ours: Tensor, expected: Tensor, tolerance: float, name: str) -> None:
    largest = expected.abs().max().item()
    torch.testing.assert_close(
        ours, expected, rtol=0, atol=tolerance * largest, msg=lambda m: f"{name}: {m}"
    )


@pytest.mark.parametrize(
    ("recipe", "scale", "reads_late", "tolerance"),
    [
        pytest.param(RECIPE, None, False, ROUNDING, id="float32"),
        pytest.param(RECIPE, None, True, ROUNDING, id="float32, read late"),
        pytest.param(replace(RECIPE, clip_norm=1e9), None, False, ROUNDING, id="nothing to clip"),
        pytest.param(replace(RECIPE, weight_decay=0.0), None, False, ROUNDING, id="no decay"),
        pytest.param(
            replace(RECIPE, precision="16-mixed", learning_rate=1e-8),
            4.0,
            False,
            HALF,
            id="float16",
        ),
    ],
)
def test_steps_are_those_of_plain_torch(
    recipe: Recipe, scale: float | None, reads_late: bool, tolerance: float
) -> None:
    preset = small()
    batch = random_batch(preset, BOXES)
    expected = plain_torch(batch, preset, recipe, scale)

    step = training_step(recipe, preset, reads_late=reads_late)
    detector = step.raw_module.detector
    detector.load_state_dict(fresh_detector(preset, seed=recipe.seed).state_dict())
    if step.scaler is not None:
        step.scaler.load_state_dict(step.scaler.state_dict() | {"scale": scale})
    results = [take(step, batch, index).read() for index in range(STEPS)]

    assert [result.loss for result in results] == pytest.approx(expected.losses, rel=tolerance)
    norms = [result.scalars["grad_norm"] for result in results]
    assert norms == pytest.approx(expected.norms, rel=tolerance)
    assert not any(result.was_skipped for result in results)
    ours = moments(detector, step.raw_optimizer)
    assert ours.keys() == expected.moments().keys()
    for name, state in expected.moments().items():
        if name == TRULY_ZERO:
            continue
        for key in ("step", "exp_avg", "exp_avg_sq"):
            assert_near(ours[name][key], state[key], tolerance, f"{key} of {name}")
    if tolerance == ROUNDING and not reads_late:
        assert_moved_alike(detector, expected.detector, recipe.seed)


def assert_moved_alike(ours: CmtDetector, expected: CmtDetector, seed: int) -> None:
    """Compare the ways that weights have come, which are short against the weights themselves."""
    fresh = dict(fresh_detector(ours.preset, seed=seed).named_parameters())
    for (name, values), wanted in zip(ours.named_parameters(), expected.parameters(), strict=True):
        moved, wanted_move = (values - fresh[name]).detach(), (wanted - fresh[name]).detach()
        assert name.startswith(FROZEN) == (not moved.any())
        if name != TRULY_ZERO:
            assert_near(moved, wanted_move, WAY, name)


def test_a_scale_that_overflows_is_halved_and_the_step_skipped_as_torchs_scaler_does() -> None:
    """The gradients of a fresh detector overflow at the scale that a scaler begins with."""
    preset = small()
    batch = random_batch(preset, BOXES)
    recipe = replace(RECIPE, precision="16-mixed")
    expected = plain_torch(batch, preset, recipe, 65_536.0)

    step = training_step(recipe, preset, reads_late=False)
    detector = step.raw_module.detector
    detector.load_state_dict(fresh_detector(preset, seed=recipe.seed).state_dict())
    skipped = [take(step, batch, index).read().was_skipped for index in range(STEPS)]

    assert step.scaler is not None
    assert skipped == [True] * STEPS
    assert step.scaler.get_scale() == expected.scale == 65_536.0 / 2**STEPS
    for name, values in fresh_detector(preset, seed=recipe.seed).named_parameters():
        assert torch.equal(detector.get_parameter(name), values), name
        assert torch.equal(expected.detector.get_parameter(name), values), name
