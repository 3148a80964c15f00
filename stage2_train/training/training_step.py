"""One optimizer step: forward and backward of every pass, the checks, the update.

Everything random in it is a function of the seed and the step.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from shared.data.batch import Batch
from shared.errors import TrainingError
from shared.model.losses import total_loss
from stage2_train.data.prefetch import MicroBatches
from stage2_train.freezing.freeze_proof import FreezeProof
from stage2_train.recipes.recipe import Recipe
from stage2_train.run.sensor_weights_log import mean_sensor_weights
from stage2_train.run.step_clock import StepClock
from stage2_train.training.global_batch import GlobalBatch
from stage2_train.training.loss_step import LossInput, LossStep
from stage2_train.training.optimizer import set_learning_rates
from stage2_train.training.schedules import rate_ratio

# Distance of the seeds of two micro-batches, so that no two of a run draw the same dropout.
MICRO_BATCH_SEEDS = 2**40


@dataclass(frozen=True, kw_only=True, slots=True)
class StepResult:
    """The outcome of a step.

    Args:
        loss: total.
        scalars: losses, learning rates and gradient norms, for the log.
        was_skipped: whether a gradient overflowed in float16, so that nothing was updated.
    """

    loss: float
    scalars: dict[str, float]
    was_skipped: bool


class TrainingStep:
    """Takes the optimizer steps of a run.

    Args:
        fabric: launched.
        recipe: of the run.
        module: what is trained, with its losses.
        optimizer: of the module.
        steps: of the whole run, which the schedule spans.
        scaler: of the gradients, with float16.
    """

    def __init__(
        self,
        *,
        fabric: Fabric,
        recipe: Recipe,
        module: LossStep,
        optimizer: torch.optim.Optimizer,
        steps: int,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        self.fabric = fabric
        self.recipe = recipe
        self.raw_module = module
        self.raw_optimizer = optimizer
        self.steps = steps
        self.scaler = scaler
        self.module, self.optimizer = fabric.setup(module, optimizer)
        self.proof = FreezeProof(module.detector, recipe.frozen, optimizer)
        self.clock = StepClock(fabric.device)

    def take(self, micro_batches: MicroBatches, global_batch: GlobalBatch, step: int) -> StepResult:
        """Take one step, counted from 0.

        Raises:
            FrozenError: if something frozen would be trained.
            TrainingError: if a loss or a gradient is not finite; nothing is updated.
        """
        ratio = rate_ratio(step, self.steps, self.recipe)
        set_learning_rates(self.raw_optimizer, ratio)
        terms, extra = self._gradients(micro_batches, global_batch, step)
        self.proof.check_flags()
        if self.scaler is not None:
            self.scaler.unscale_(self.raw_optimizer)
        norms = self._gradient_norms()
        if self.scaler is None and not math.isfinite(norms["grad_norm"]):
            raise diverged(step, micro_batches, "a gradient is not finite")
        was_skipped = self._update(norms["grad_norm"])
        self.clock.mark("update")
        loss = sum(terms.values())
        groups = self.raw_optimizer.param_groups
        rates = {f"lr/x{group['factor']:g}": group["lr"] for group in groups}
        scalars = {"loss": loss, **norms, "lr": self.recipe.learning_rate * ratio, **rates}
        return StepResult(loss=loss, scalars=scalars | terms | extra, was_skipped=was_skipped)

    def _gradients(
        self, micro_batches: MicroBatches, global_batch: GlobalBatch, step: int
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Accumulate the global batch's gradient; return its loss terms and AQR's scalars."""
        rank, passes, preset = self.fabric.global_rank, len(micro_batches), self.raw_module.preset
        step_seed = self.recipe.seed * 1_000_003 + step
        counts = global_batch.counts(preset)
        first = rank * sum(len(batch.tokens) for batch in micro_batches)
        outputs: list[tuple[dict[str, Tensor], dict[str, Tensor]]] = []
        self.optimizer.zero_grad()
        for index, batch in enumerate(micro_batches):
            torch.manual_seed(step_seed + MICRO_BATCH_SEEDS * (rank * passes + index))  # dropout
            queries = global_batch.denoising(batch, first, preset, step_seed)
            first += len(batch.tokens)
            with self.fabric.no_backward_sync(self.module, enabled=index < passes - 1):
                try:
                    outputs.append(self.module(LossInput(batch, queries, counts)))
                except FloatingPointError as error:
                    raise diverged(step, [batch], str(error)) from error
                self.clock.mark("forward")
                # DDP takes the mean of the processes' gradients, while their losses add up.
                self.fabric.backward(total_loss(outputs[-1][0]) * self.fabric.world_size)
                self.clock.mark("backward")
        terms = self._summed(micro_batches, [terms for terms, _ in outputs], step)
        sums = self._summed(micro_batches, [sums for _, sums in outputs], step)
        return terms, self._aqr_scalars(sums)

    def _aqr_scalars(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Return what to log of AQR; `sums` are those of `sensor_weight_sums`."""
        if not sums:
            return {}
        scale = self.raw_module.detector.bias_scale
        return mean_sensor_weights(sums) | ({} if scale is None else {"aqr/scale": scale.item()})

    def _summed(
        self, micro_batches: MicroBatches, scalars: Sequence[Mapping[str, Tensor]], step: int
    ) -> dict[str, float]:
        """Add up scalars over passes and processes; every process stops if one is not finite."""
        names = list(scalars[0])
        if not names:
            return {}
        own = torch.stack([torch.stack(list(of_pass.values())) for of_pass in scalars])
        own = own.detach().float()  # (passes, scalars)
        summed = own.sum(dim=0)
        if self.fabric.world_size > 1:
            summed = self.fabric.all_reduce(summed, reduce_op="sum")
        rows = [*own.tolist(), summed.tolist()]
        blamed = [*([batch] for batch in micro_batches), micro_batches]
        for batches, row in zip(blamed, rows, strict=True):
            bad = [name for name, value in zip(names, row, strict=True) if not math.isfinite(value)]
            if bad:
                raise diverged(step, batches, f"{', '.join(bad)} is not finite")
        return dict(zip(names, rows[-1], strict=True))

    def _gradient_norms(self) -> dict[str, float]:
        """Return the norm of all gradients before clipping, and that of each part's gradients."""
        norms = {"grad_norm": _norm(self._trained())}
        for name, part in self.raw_module.detector.named_children():
            if trained := [p for p in part.parameters() if p.requires_grad]:
                norms[f"grad_norm/{name}"] = _norm(trained)
        return dict(zip(norms, torch.stack(list(norms.values())).tolist(), strict=True))

    def _update(self, norm: float) -> bool:
        """Clip and update; return whether the gradient scaler skipped it and lowered its scale."""
        torch.nn.utils.clip_grads_with_norm_(
            self._trained(), self.recipe.clip_norm, torch.tensor(norm)
        )
        before = 0.0 if self.scaler is None else self.scaler.get_scale()
        self.optimizer.step()
        return self.scaler is not None and self.scaler.get_scale() < before

    def _trained(self) -> list[nn.Parameter]:
        return [p for group in self.raw_optimizer.param_groups for p in group["params"]]


def diverged(step: int, batches: Sequence[Batch], reason: str) -> TrainingError:
    """Return the error of a step whose loss cannot be used."""
    tokens = ", ".join(token for batch in batches for token in batch.tokens)
    return TrainingError(
        f"step {step}, samples {tokens}: {reason}. The run's last checkpoint was saved before; "
        "lower the learning rate, or check the store with `feature-cache verify`"
    )


def _norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    return torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
