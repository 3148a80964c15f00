"""One optimizer step: forward and backward of every pass, the checks, the update.

Everything random in it is a function of the seed and the step. On CUDA, the host waits once, for
the matching costs.
"""

import contextlib
from collections.abc import Iterator, Sequence

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from shared.errors import TrainingError
from shared.model.losses import total_loss
from stage2_train.data.prefetch import MicroBatches
from stage2_train.freezing.freeze_proof import FreezeProof
from stage2_train.recipes.recipe import Recipe
from stage2_train.run.step_clock import StepClock
from stage2_train.training.global_batch import GlobalBatch
from stage2_train.training.loss_step import LossInput, LossStep
from stage2_train.training.optimizer import set_learning_rates
from stage2_train.training.queued_step import (
    AQR_SCALE,
    GRAD_NORM,
    QueuedStep,
    StepNumbers,
    diverged,
)
from stage2_train.training.schedules import rate_ratio

# Distance of the seeds of two micro-batches, so that no two of a run draw the same dropout. On a
# CPU torch uses only the last 32 bits of a seed: there, multiples of 2**32 over the golden ratio
# are more than a million steps apart, for up to a thousand micro-batches.
MICRO_BATCH_SEEDS = 0x9E3779B9

PassOutputs = tuple[dict[str, Tensor], dict[str, Tensor]]


class TrainingStep:
    """Takes the optimizer steps of a run.

    Args:
        fabric: launched.
        recipe: of the run.
        module: what is trained, with its losses.
        optimizer: of the module; a fused one if results are read late, or with a scaler.
        steps: of the whole run, which the schedule spans.
        scaler: of the gradients, with float16.
        reads_late: whether the host updates before it has read the step's losses; then the device
            decides that nothing is updated if something is not finite.
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
        reads_late: bool = False,
    ) -> None:
        self.fabric = fabric
        self.recipe = recipe
        self.raw_module = module
        self.raw_optimizer = optimizer
        self.steps = steps
        self.scaler = scaler
        self.reads_late = reads_late
        self.module, self.optimizer = fabric.setup(module, optimizer)
        self.proof = FreezeProof(module.detector, recipe.frozen, optimizer)
        self.clock = StepClock(fabric.device)

    def take(self, micro_batches: MicroBatches, global_batch: GlobalBatch, step: int) -> QueuedStep:
        """Queue one step, counted from 0; its result is to be read from what is returned.

        Raises:
            FrozenError: if something frozen would be trained.
            TrainingError: if a matching cost is not finite and no scaler skips the step, or if a
                loss or a gradient is not finite and results are not read late; nothing is updated.
        """
        set_learning_rates(self.raw_optimizer, rate_ratio(step, self.steps, self.recipe))
        saved_buffers = self._copied_buffers()
        passes = self._gradients(micro_batches, global_batch, step)
        self.proof.check_flags()
        if self.scaler is not None:
            self.scaler.unscale_(self.raw_optimizer)
        norms = self._gradient_norms()
        scale = self.raw_module.detector.bias_scale if passes[0][1] else None
        # A copy of the scale: the update changes it in place.
        numbers = StepNumbers.of(
            passes, norms | ({} if scale is None else {AQR_SCALE: scale.clone()})
        )
        if self.scaler is None and not self.reads_late:
            queued = self._queued(step, micro_batches, numbers)
            queued.read()
            self._update(norms[GRAD_NORM])
            self.clock.mark("update")
        else:
            was_skipped = self._update(norms[GRAD_NORM])
            _restore(saved_buffers, was_skipped)
            self.clock.mark("update")  # before the copy, so that it has been reached when that has
            queued = self._queued(step, micro_batches, numbers, was_skipped)
        return queued

    def _gradients(
        self, micro_batches: MicroBatches, global_batch: GlobalBatch, step: int
    ) -> list[PassOutputs]:
        """Accumulate the global batch's gradient; return loss terms and sums of every pass."""
        rank, passes, preset = (
            self.fabric.global_rank,
            len(micro_batches),
            self.raw_module.detector.preset,
        )
        step_seed = self.recipe.seed * 1_000_003 + step
        counts = global_batch.counts(preset)
        first = rank * sum(len(batch.tokens) for batch in micro_batches)
        outputs: list[PassOutputs] = []
        self.optimizer.zero_grad()
        for index, batch in enumerate(micro_batches):
            torch.manual_seed(step_seed + MICRO_BATCH_SEEDS * (rank * passes + index))  # dropout
            queries = global_batch.denoising(
                batch, first, preset, step_seed, device=self.fabric.device
            )
            first += len(batch.tokens)
            with self.fabric.no_backward_sync(self.module, enabled=index < passes - 1):
                try:
                    outputs.append(self.module(LossInput(batch, queries, counts)))
                except FloatingPointError as error:
                    raise diverged(step, [batch.tokens], str(error)) from error
                self.clock.mark("forward")
                # DDP takes the mean of the processes' gradients, while their losses add up.
                total = _poisoned(total_loss(outputs[-1][0]) * self.fabric.world_size)
                self.fabric.backward(total)
                self.clock.mark("backward")
        return outputs

    def _queued(
        self,
        step: int,
        micro_batches: MicroBatches,
        numbers: StepNumbers,
        was_skipped: Tensor | None = None,
    ) -> QueuedStep:
        """Send a step's numbers to the host."""
        summed = numbers.of_passes.sum(dim=0)
        if self.fabric.world_size > 1:
            summed = self.fabric.all_reduce(summed, reduce_op="sum")
        groups = self.raw_optimizer.param_groups
        ratio = rate_ratio(step, self.steps, self.recipe)
        rates = {f"lr/x{group['factor']:g}": group["lr"] for group in groups}
        return QueuedStep(
            step=step,
            batches=micro_batches,
            numbers=numbers,
            summed=summed,
            rates={"lr": self.recipe.learning_rate * ratio, **rates},
            was_skipped=was_skipped,
        )

    def _gradient_norms(self) -> dict[str, Tensor]:
        """Return the norm of all gradients before clipping, and that of each part's gradients."""
        gradients = {p: p.grad for p in self._trained() if p.grad is not None}
        each = torch._foreach_norm([*gradients.values()])
        norm_of = dict(zip(gradients, each, strict=True))
        norms = {GRAD_NORM: _joint_norm(each)}
        for name, part in self.raw_module.detector.named_children():
            if any(p.requires_grad for p in part.parameters()):
                own = [norm_of[p] for p in part.parameters() if p in norm_of]
                norms[f"{GRAD_NORM}/{name}"] = _joint_norm(own) if own else each[0].new_zeros(())
        return norms

    def _update(self, norm: Tensor) -> Tensor | None:
        """Clip and update; return whether the scaler skipped that, as 0 or 1 on the device."""
        torch.nn.utils.clip_grads_with_norm_(self._trained(), self.recipe.clip_norm, norm)
        if self.scaler is not None:
            one = torch.ones((), device=norm.device)
            before = self.scaler.scale(one)
            self.optimizer.step()
            return (self.scaler.scale(one) < before).float()
        if self.reads_late:
            # The fused AdamW leaves weights and moments as they are where this is 1.
            self.raw_optimizer.found_inf = (~norm.isfinite()).float()  # type: ignore[attr-defined]
        self.optimizer.step()
        return None

    def _copied_buffers(self) -> list[tuple[Tensor, Tensor]]:
        """Return buffers and their copies, if this step may be skipped: BatchNorm's statistics."""
        if self.scaler is None:
            return []
        return [(buffer, buffer.clone()) for buffer in self.raw_module.detector.buffers()]

    def _trained(self) -> list[nn.Parameter]:
        return [p for group in self.raw_optimizer.param_groups for p in group["params"]]


@contextlib.contextmanager
def explained_memory(step: int, passes: int) -> Iterator[None]:
    """Say what to do if a step does not fit into the memory of a GPU.

    Raises:
        TrainingError: instead of torch's own error.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"step {step} needs more memory than the GPU has left: {str(error).splitlines()[0]} "
            "What was saved remains. If other programs use this GPU, end them and run the same "
            "command again. If not, start a run in a new folder that takes each batch in more "
            f"passes, with --set accumulate={2 * passes}, or has smaller batches"
        ) from error


def _poisoned(total: Tensor) -> Tensor:
    """Return a finite loss as it is, with its gradient; any other as NaN, with gradients of NaN.

    The gradient of an infinite loss may be finite, and then nothing would keep it from being used.
    """
    return total * torch.where(total.isfinite(), 1.0, torch.nan)


def _joint_norm(norms: Sequence[Tensor]) -> Tensor:
    joint: Tensor = torch.linalg.vector_norm(torch.stack([*norms]))
    return joint


def _restore(saved: Sequence[tuple[Tensor, Tensor]], was_skipped: Tensor | None) -> None:
    """Undo what a skipped step has done to buffers, such as statistics of overflown features."""
    for buffer, copy in saved:
        assert was_skipped is not None
        buffer.copy_(torch.where(was_skipped > 0, copy, buffer))
