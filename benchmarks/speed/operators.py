"""How many operators a training step queues, counted on a CPU: the kernels that a GPU would launch.

    python -m benchmarks.speed.operators
    python -m benchmarks.speed.operators --recipes cmt --batches 2 --out /tmp/operators.json

A step is traced as `train-stage2` takes it, in bfloat16 and with the choices that the model makes
for CUDA (`JOINING_DEVICES`), on random features: the decoder has its official depth, everything
else the sizes of the preset `tiny`, since the number of operators does not depend on sizes. Views
and allocations are not counted. A copy that makes the host wait for a GPU counts as a wait: values
that Python reads, and tensors sent without `non_blocking`. Prints a table and writes JSON. Takes
half a minute of processor time.

It cannot see:

- how many kernels an operator launches. Most launch one; convolutions, attention and fused
  optimizers launch a few, so a count is a lower bound;
- what differs by device elsewhere: AQR's attention on a CPU is made of pieces that one Triton
  kernel replaces, so its counts with AQR say what the rest does, and more;
- operators on the host (denoising noise, matching), which are counted like the others;
- copies and waits in torch's own code, in the loader and in `lightning_fabric`;
- time. A launch costs the host about 5 to 10 microseconds, whatever the kernel does.

Autocast for a CPU leaves more in bfloat16 than that for CUDA; the operators that CUDA's computes in
float32 are cast here as there.
"""

import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.speed.gpu.synthetic_store import camera_ring
from shared.config.preset import Preset
from shared.config.preset_catalogue import tiny
from shared.data.batch import Batch
from shared.model.initial_detector import fresh_detector
from shared.process import autocast
from shared.process.command import command_parser
from stage2_train.freezing.freezing import freeze
from stage2_train.recipes.recipe import Recipe
from stage2_train.recipes.recipes import load_recipe
from stage2_train.training.distributed import launch_fabric
from stage2_train.training.global_batch import GlobalBatch
from stage2_train.training.loss_step import LossStep
from stage2_train.training.optimizer import make_optimizer
from stage2_train.training.training_step import TrainingStep

RESULT = Path("benchmarks/results/operators.json")
RECIPES, BATCHES, BOXES = ("cmt", "frozen_a", "aqr_only"), (2, 16), 12  # boxes of a sample
PHASES = ("forward", "losses", "backward", "update")
NO_KERNEL = {
    *("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"),
    *("_unsafe_view", "lift_fresh", "set_", "resize_", "_local_scalar_dense"),
    *("_record_function_enter_new", "_record_function_exit"),
}
WAITING_READS = {"item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__", "nonzero"}
# Of CUDA's autocast: https://docs.pytorch.org/docs/stable/amp.html (those that the model uses).
IN_FLOAT32 = {
    *("layer_norm", "softmax", "sum", "log", "exp", "pow", "__pow__", "norm", "rsqrt", "cdist"),
    *("prod", "cumsum", "reciprocal", "binary_cross_entropy_with_logits"),
}


class OperatorCounter(TorchDispatchMode):
    """Counts operators that would launch a kernel, by the phase of the step."""

    def __init__(self) -> None:
        super().__init__()
        self.phases = {phase: Counter[str]() for phase in PHASES}
        self.pending: Counter[str] = Counter()  # of the phase that has not ended yet
        self.operators: Counter[str] = Counter()

    def end_phase(self, phase: str) -> None:
        """Attribute what was counted since the last phase to this one."""
        if phase in self.phases:
            self.phases[phase].update(self.pending)
        self.pending.clear()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if not func.is_view and name not in NO_KERNEL:
            self.pending["launches"] += 1
            self.pending["casts and copies"] += name == "_to_copy"
            self.operators[name] += 1
        indices = args[1] if name in ("index", "index_put_") else ()
        if any(isinstance(index, Tensor) and index.dtype == torch.bool for index in indices):
            self.pending["waits"] += 1  # for the number of True
        return func(*args, **kwargs or {})


class CudaPolicy(TorchFunctionMode):
    """Casts as autocast does on CUDA, and counts where the host would wait for the device.

    Args:
        counter: of the step.
    """

    def __init__(self, counter: OperatorCounter) -> None:
        super().__init__()
        self.counter = counter

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name in WAITING_READS or _sends(name, args, kwargs):
            # Torch's own code reads numbers that it keeps on the host.
            caller = sys._getframe(1).f_globals.get("__name__", "")
            self.counter.pending["waits"] += not caller.startswith("torch.")
        if name == "scaled_dot_product_attention":  # one kernel on CUDA, with dropout or without
            kwargs["dropout_p"] = 0.0
        if name in IN_FLOAT32 and torch.is_autocast_enabled("cpu"):
            is_half = [isinstance(value, Tensor) and value.itemsize == 2 for value in args]
            args = tuple(v.float() if half else v for v, half in zip(args, is_half, strict=True))
        return func(*args, **kwargs)


def _sends(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Return whether a call copies from the host to a device and waits for it."""
    if name == "to":
        targets = (*args[1:2], kwargs.get("device"))
        is_sent = any(isinstance(target, str | torch.device) for target in targets)
        return is_sent and not kwargs.get("non_blocking", False)
    return name == "new_tensor" or (name == "tensor" and kwargs.get("device") is not None)


def official_depth() -> Preset:
    """Return the preset `tiny` with the depth and the branches of the official detectors."""
    small = tiny()
    return replace(small, name="operators", head=replace(small.head, layers=6, dropout=0.1))


def random_batch(preset: Preset, samples: int) -> Batch:
    """Return features and boxes without meaning, before cameras around the LiDAR."""
    generator = torch.Generator().manual_seed(0)
    assert preset.camera is not None
    ring = torch.from_numpy(camera_ring(preset.camera.height_px, preset.camera.width_px))
    boxes = torch.rand(samples, BOXES, 9, generator=generator) * 4 + 0.5  # (B, n, 9)
    return Batch(
        tokens=tuple(str(index) for index in range(samples)),
        maps={
            wanted.name: torch.randn(samples, *wanted.shape, generator=generator).half()
            for wanted in preset.maps
        },
        img_from_lidar=ring.repeat(samples, 1, 1, 1),
        boxes_lidar=tuple(boxes),
        labels=tuple(torch.arange(BOXES) % 10 for _ in range(samples)),
        conditions=("all",) * samples,
    )


def training_step(recipe: Recipe, preset: Preset) -> TrainingStep:
    """Return the step of a fresh detector, with the optimizer that CUDA would get."""
    detector = fresh_detector(preset, seed=0, aqr=recipe.aqr).train()
    freeze(detector, recipe.frozen, absent=[])
    optimizer = make_optimizer(detector, recipe)
    for group in optimizer.param_groups:  # torch's own default on CUDA
        group["foreach"] = not group["fused"]
    fabric, scaler = launch_fabric(recipe)
    return TrainingStep(
        fabric=fabric,
        recipe=recipe,
        module=LossStep(detector),
        optimizer=optimizer,
        steps=100,
        scaler=scaler,
    )


def count(recipe_name: str, samples: int) -> OperatorCounter:
    """Trace one step, after one that fills what is kept between steps."""
    recipe = replace(load_recipe(recipe_name), precision="bf16-mixed", batch_size=samples)
    preset = official_depth()
    step = training_step(recipe, preset)
    batch, boxes = random_batch(preset, samples), GlobalBatch(box_counts=(BOXES,) * samples)
    step.take([batch], boxes, 0)
    counter = OperatorCounter()
    detector = step.raw_module.detector
    detector.register_forward_hook(lambda *_: counter.end_phase("forward"))

    def mark(name: str) -> None:
        counter.end_phase("losses" if name == "forward" else name)  # the clock's includes them

    with (
        mock.patch.object(step.clock, "mark", mark),
        mock.patch.object(autocast, "JOINING_DEVICES", ("cpu",)),
        CudaPolicy(counter),
        counter,
    ):
        step.take([batch], boxes, 1)
    return counter


def row(recipe: str, samples: int, counter: OperatorCounter) -> dict[str, Any]:
    """Return the counts of a case, for the JSON file."""
    return {
        "recipe": recipe,
        "batch": samples,
        **{
            kind: {phase: counts[kind] for phase, counts in counter.phases.items()}
            for kind in ("launches", "casts and copies", "waits")
        },
        "most frequent": dict(counter.operators.most_common(12)),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return the counts as Markdown: of launches, those that are casts or copies, and waits."""
    lines = [
        f"| recipe | batch | {' | '.join(PHASES)} | step | casts and copies | waits |",
        f"|{'---|' * (len(PHASES) + 5)}",
    ]
    for case in rows:
        launches = [case["launches"][phase] for phase in PHASES]
        sums = [sum(case[kind].values()) for kind in ("launches", "casts and copies", "waits")]
        cells = " | ".join(f"{number:,}" for number in (*launches, *sums))
        lines.append(f"| {case['recipe']} | {case['batch']} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    """Count, print, write."""
    parser = command_parser(__doc__, "python -m benchmarks.speed.operators")
    parser.add_argument("--recipes", nargs="+", default=RECIPES)
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES)
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    rows = [row(name, size, count(name, size)) for name in args.recipes for size in args.batches]
    print(table(rows))
    args.out.write_text(json.dumps({"torch": torch.__version__, "cases": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
