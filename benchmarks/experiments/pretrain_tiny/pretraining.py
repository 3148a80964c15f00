"""The phases in a row: train, judge on held-out scenes, keep the best; resumes wherever it was."""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.experiments.pretrain_tiny.attention_start import aim_attention
from benchmarks.experiments.pretrain_tiny.judge_detector import judge_detector
from benchmarks.experiments.pretrain_tiny.phases import Phase
from benchmarks.experiments.pretrain_tiny.prepare_frames import Preparation, prepare_frames
from benchmarks.experiments.pretrain_tiny.prepared_frames import PreparedFrames
from benchmarks.experiments.pretrain_tiny.scene_sets import (
    HELD_OUT_SEED,
    recorded_samples,
    scene_set,
)
from benchmarks.experiments.pretrain_tiny.tiny_checkpoint import write_tiny_checkpoint
from benchmarks.experiments.pretrain_tiny.trained_backbones import (
    WholeDetector,
    keep_in_train_mode,
    whole_detector,
)
from benchmarks.experiments.strategies.live_frames import live_batches
from shared.checkpoint.strict_loading import read_checkpoint
from shared.config.preset import Preset
from shared.digests import json_digest
from shared.process.device import available_device
from shared.process.even_samples import evenly_spaced
from shared.process.whole_file import whole_file
from shared.synthetic_nuscenes.world.synthetic_config import SyntheticConfig
from stage2_train.data.sampler import EpochSampler, Place
from stage2_train.data.training_batches import TrainingBatches
from stage2_train.run.run_checkpoint import CHECKPOINT, trained_weights
from stage2_train.training.assembly import train_batches

CURVE = "curve.json"
AIMED = "aimed.pt"
BEST = "tiny.pth"
SEED = 0  # of the first weights
TYPICAL_SAMPLES = 8  # that the first BatchNorm statistics are taken from

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pretraining:
    """A training of all phases in a folder.

    Args:
        out: folder of scene sets, prepared frames and runs.
        preset: the detector.
        phases: in their order.
        seeds: of the scene sets to train on.
        world: size of a scene set; both splits have scenes.
        held_out: seed of the scene set to judge on.
        aim_steps: of `aim_attention`.
    """

    out: Path
    preset: Preset
    phases: Sequence[Phase]
    seeds: Sequence[int]
    world: SyntheticConfig
    held_out: int = HELD_OUT_SEED
    aim_steps: int = 1000

    def run(self) -> list[dict[str, Any]]:
        """Train what is left to train; return the curve.

        Raises:
            InterruptedWorkError: on Ctrl-C or SIGTERM, with the state saved.
        """
        start = self._aimed_weights()
        for phase in self.phases:
            start = self._train_phase(phase, start)
        return self.curve()

    def curve(self) -> list[dict[str, Any]]:
        """Return the judgements so far, one per round."""
        file = self.out / CURVE
        curve: list[dict[str, Any]] = json.loads(file.read_text()) if file.exists() else []
        return curve

    def _aimed_weights(self) -> Mapping[str, Tensor]:
        """Return the first weights, see `attention_start`; kept, since they cost a minute."""
        file = self.out / AIMED
        if not file.exists():
            detector = whole_detector(self.preset, SEED)
            frames = self._frames(self.phases[0], self.seeds)
            batches = self._batches(self.phases[0], frames)
            (typical,) = live_batches(frames, [_spread(len(frames))])
            keep_in_train_mode(detector, typical.to(detector.device))
            losses = aim_attention(detector, batches.load(batches.order()), self.aim_steps)
            log.info("attention aimed: loss %.2f to %.2f nats", losses[0], losses[-1])
            with whole_file(file) as handle:
                torch.save({"state_dict": detector.state_dict(), "losses": losses}, handle)
        weights: Mapping[str, Tensor] = read_checkpoint(file)["state_dict"]
        return weights

    def _train_phase(self, phase: Phase, start: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Train a phase to its end in rounds; return its averaged weights."""
        steps = phase.steps
        run = self.out / phase.recipe.name
        frames = self._frames(phase, self.seeds)
        held_out = self._frames(phase, [self.held_out])
        judged = [row["step"] for row in self.curve() if row["phase"] == phase.recipe.name]
        for end in [*range(phase.judge_every, steps, phase.judge_every), steps]:
            if end in judged:
                continue
            began = time.process_time()
            detector = self._detector(start, shields_backbones=phase.shields_backbones)
            result = train_batches(
                self._batches(phase, frames),
                detector,
                phase.recipe,
                run,
                samples=self._samples(phase),
                origin={},
                stop_after=end,
            )
            spent = time.process_time() - began
            self._judge(phase, held_out, end, {**result, "cpu_seconds": spent})
        return trained_weights(read_checkpoint(run / CHECKPOINT))

    def _frames(self, phase: Phase, seeds: Sequence[int]) -> PreparedFrames:
        # Held-out frames are needed as recorded only.
        variants = 1 if list(seeds) == [self.held_out] else phase.variants
        preparation = Preparation(preset=self.preset, sweeps=phase.sweeps, variants=variants)
        folders, records = [], []
        for seed in seeds:
            root = scene_set(self.out / "data", self.world, seed)
            records.append(recorded_samples(root))
            folder = self.out / "prepared" / root.name
            folders.append(prepare_frames(folder, records[-1], preparation))
        return PreparedFrames(folders, records, preparation)

    def _batches(self, phase: Phase, frames: PreparedFrames) -> TrainingBatches:
        recipe = phase.recipe
        return TrainingBatches(
            order=lambda: EpochSampler(
                len(frames),
                recipe.batch_size,
                recipe.seed,
                variants=frames.variants,
                drop=recipe.sensor_drop,
            ),
            load=partial(live_batches, frames),
        )

    def _samples(self, phase: Phase) -> str:
        return json_digest(
            {"seeds": list(self.seeds), "sweeps": phase.sweeps, "variants": phase.variants}
        )

    def _detector(
        self, weights: Mapping[str, Tensor], *, shields_backbones: bool = False
    ) -> WholeDetector:
        detector = whole_detector(self.preset, SEED, shields_backbones=shields_backbones)
        detector.load_state_dict(weights)
        return detector

    def _judge(
        self, phase: Phase, held_out: PreparedFrames, step: int, spent: Mapping[str, Any]
    ) -> None:
        """Judge the averaged weights; add them to the curve, and keep them if they are best."""
        name = phase.recipe.name
        weights = trained_weights(read_checkpoint(self.out / name / CHECKPOINT))
        detector = self._detector(weights).to(available_device())
        root = scene_set(self.out / "data", self.world, self.held_out)
        scores = judge_detector(detector, held_out, root, self.out / name / "held_out")
        curve = self.curve()
        earlier = [row["scores"]["all"]["mAP"] for row in curve if row["phase"] == name]
        if scores["all"]["mAP"] > max(earlier, default=-1.0):
            write_tiny_checkpoint(self.out / name / BEST, weights, self.preset, step)
        judgement = {"phase": name, "sweeps": phase.sweeps, "step": step, **spent, "scores": scores}
        with whole_file(self.out / CURVE, "w") as file:
            json.dump([*curve, judgement], file, indent=1)
        log.info(
            "%s, step %d: %s",
            name,
            step,
            ", ".join(f"{what} mAP {score['mAP']:.4f}" for what, score in scores.items()),
        )


def _spread(samples: int) -> list[Place]:
    """Return places of samples from all scene sets, as recorded."""
    return [Place(0, sample) for sample in evenly_spaced(samples, TYPICAL_SAMPLES)]
