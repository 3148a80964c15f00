"""The whole tiny detector trains on what a store is made from, and every command loads it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from benchmarks.experiments.pretrain_tiny.attention_start import aim_attention, log_attention
from benchmarks.experiments.pretrain_tiny.dense_heads import DenseHeads
from benchmarks.experiments.pretrain_tiny.phases import PHASES, Phase, shielded, with_sweeps
from benchmarks.experiments.pretrain_tiny.prepare_frames import Preparation, prepare_frames
from benchmarks.experiments.pretrain_tiny.prepared_frames import PreparedFrames
from benchmarks.experiments.pretrain_tiny.pretraining import BEST, Pretraining
from benchmarks.experiments.pretrain_tiny.scene_sets import recorded_samples
from benchmarks.experiments.pretrain_tiny.tiny_checkpoint import write_tiny_checkpoint
from benchmarks.experiments.pretrain_tiny.trained_backbones import (
    WholeDetector,
    keep_in_train_mode,
    whole_detector,
)
from benchmarks.experiments.strategies.live_frames import LivePlaces, live_batches
from cache.reader import CachedFeatures
from shared.checkpoint.checkpoint_table import FROZEN_PARTS, PARTS, belongs, part_of
from shared.checkpoint.strict_loading import read_checkpoint
from shared.config.augmentation import VariantDraws, official_augmentation
from shared.config.classes import CAMERAS, LIDAR
from shared.config.preset_catalogue import tiny
from shared.data.batch import Batch
from shared.data.sensor_drop import NOTHING, Absent
from shared.model.losses import total_loss
from shared.model.outputs import HeadOutputs
from shared.synthetic_nuscenes.world.synthetic_config import SyntheticConfig
from stage1_extract.__main__ import main as extract_features
from stage1_extract.backbones.weights import frozen_backbones
from stage1_extract.nuscenes.records import SampleRecord
from stage1_extract.preprocessing.raw_frames import RawFrame
from stage2_train.__main__ import main as train_stage2
from stage2_train.data.sampler import EpochSampler, Place
from stage2_train.run.run_checkpoint import CHECKPOINT
from stage2_train.training.global_batch import GlobalBatch
from stage2_train.training.loss_step import LossInput, LossStep

VARIANTS = 3
SMALL = SyntheticConfig(
    scenes_train=1, scenes_val=1, samples_per_scene=2, azimuth_steps=180, render_stride_px=4
)


@pytest.fixture(scope="module")
def records(synthetic_root: Path) -> list[SampleRecord]:
    return recorded_samples(synthetic_root)


@pytest.fixture(scope="module")
def preparation() -> Preparation:
    return Preparation(preset=tiny(), sweeps=10, variants=VARIANTS)


@pytest.fixture(scope="module")
def frames(
    records: list[SampleRecord],
    preparation: Preparation,
    tmp_path_factory: pytest.TempPathFactory,
) -> PreparedFrames:
    """The samples as two sets, so that a sample's file is not always the first."""
    parts = [records[:2], records[2:]]
    folders = [
        prepare_frames(tmp_path_factory.mktemp("prepared"), part, preparation) for part in parts
    ]
    return PreparedFrames(folders, parts, preparation)


@pytest.fixture(scope="module")
def live(records: list[SampleRecord]) -> LivePlaces:
    draws = VariantDraws(augmentation=official_augmentation(tiny()))
    return LivePlaces(records, tiny(), draws)


def both_variants(number: int) -> int:
    return number * VARIANTS + number


def assert_same_voxels(prepared: RawFrame, recorded: RawFrame) -> None:
    assert prepared.voxels is not None
    assert recorded.voxels is not None
    assert torch.equal(prepared.voxels.coordinates, recorded.voxels.coordinates)
    assert torch.equal(prepared.voxels.means, recorded.voxels.means)


@pytest.mark.parametrize("sample", [0, 2, 5])
@pytest.mark.parametrize("number", range(VARIANTS))
@pytest.mark.parametrize("absent", [NOTHING, (LIDAR,), CAMERAS, CAMERAS[2:3]])
def test_a_prepared_frame_is_the_recorded_one_in_every_variant(
    frames: PreparedFrames, live: LivePlaces, sample: int, number: int, absent: Absent
) -> None:
    prepared, lost = frames[Place(both_variants(number), sample, absent)]
    recorded, _ = live[Place(number, sample, absent)]

    assert lost == absent
    assert prepared.images is not None
    assert recorded.images is not None
    assert torch.equal(prepared.images, recorded.images)
    assert_same_voxels(prepared, recorded)
    for name in ("img_from_lidar", "ego_from_lidar", "global_from_ego"):
        assert np.array_equal(getattr(prepared.frame, name), getattr(recorded.frame, name))
    for name in ("boxes_lidar", "labels", "lidar_points"):
        ours, theirs = (getattr(raw.frame.annotations, name) for raw in (prepared, recorded))
        assert np.array_equal(ours, theirs)


def test_camera_and_lidar_variants_are_independent(
    frames: PreparedFrames, preparation: Preparation
) -> None:
    """A point that the LiDAR variant moved lies where the camera variant shows it."""
    camera, lidar, sample = 1, 2, 3
    mixed, _ = frames[Place(camera * VARIANTS + lidar, sample, NOTHING)]
    pictured, _ = frames[Place(camera * VARIANTS, sample, NOTHING)]
    scanned, _ = frames[Place(lidar, sample, NOTHING)]

    assert mixed.images is not None
    assert pictured.images is not None
    assert torch.equal(mixed.images, pictured.images)
    assert_same_voxels(mixed, scanned)
    ours, theirs = (raw.frame.annotations.boxes_lidar for raw in (mixed, scanned))
    assert np.array_equal(ours, theirs)
    recorded_from_moved = np.linalg.inv(pictured.frame.ego_from_lidar) @ mixed.frame.ego_from_lidar
    expected = pictured.frame.img_from_lidar @ recorded_from_moved
    assert np.allclose(mixed.frame.img_from_lidar, expected, rtol=1e-9, atol=1e-7)
    assert not np.allclose(mixed.frame.img_from_lidar, pictured.frame.img_from_lidar, atol=1.0)


def test_a_phase_without_sweeps_has_fewer_voxels(
    records: list[SampleRecord], frames: PreparedFrames, tmp_path: Path
) -> None:
    bare = Preparation(preset=tiny(), sweeps=0, variants=1)
    keyframe = PreparedFrames([prepare_frames(tmp_path, records, bare)], [records], bare)
    alone, _ = keyframe[Place(0, 2, NOTHING)]
    merged, _ = frames[Place(0, 2, NOTHING)]
    assert alone.voxels is not None
    assert merged.voxels is not None
    assert 0 < len(alone.voxels.means) < 0.8 * len(merged.voxels.means)
    assert float(alone.voxels.means[:, 4].abs().max()) == 0  # no time lag


def step_of(detector: WholeDetector, frames: PreparedFrames) -> tuple[Tensor, nn.Module]:
    places = [[Place(0, 0, NOTHING), Place(4, 3, NOTHING), Place(8, 4, (LIDAR,))]]
    (batch,) = live_batches(frames, places)
    batch = batch.to(detector.device)
    counts = GlobalBatch(box_counts=tuple(len(boxes) for boxes in batch.boxes_lidar))
    module = LossStep(detector).train()
    queries = counts.denoising(batch, 0, detector.preset, 0, device=detector.device)
    terms, _ = module(LossInput(batch, queries))
    return total_loss(terms), module


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_step_trains_the_backbones_and_every_batch_norm(
    frames: PreparedFrames, device: str
) -> None:
    detector = whole_detector(tiny(), seed=0).to(device)
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}

    loss, _ = step_of(detector, frames)
    loss.backward()  # type: ignore[no-untyped-call]

    assert loss.isfinite()
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        if belongs(name, FROZEN_PARTS):  # not all of the first self attention: contents are zeros
            assert parameter.grad.abs().max() > 0, name
    after = detector.state_dict()
    statistics = [name for name in after if name.endswith(("running_mean", "running_var"))]
    assert len(statistics) == 2 * sum(isinstance(m, _BatchNorm) for m in detector.modules()) > 100
    assert all(not torch.equal(before[name], after[name]) for name in statistics)


@pytest.mark.parametrize("is_shielded", [True, False])
def test_shielded_backbones_learn_from_the_dense_loss_only(
    frames: PreparedFrames, monkeypatch: pytest.MonkeyPatch, is_shielded: bool
) -> None:
    def silent(_: DenseHeads, maps: dict[str, Tensor], *rest: object) -> Tensor:
        return 0 * sum(values.sum() for values in maps.values())

    monkeypatch.setattr(DenseHeads, "forward", silent)
    detector = whole_detector(tiny(), seed=0, shields_backbones=is_shielded)

    loss, _ = step_of(detector, frames)
    loss.backward()  # type: ignore[no-untyped-call]

    norms = {
        name: float(parameter.grad.norm())
        for name, parameter in detector.named_parameters()
        if parameter.grad is not None
    }
    assert all(norms[name] > 0 for name in norms if belongs(name, ["img_neck", "pts_neck"]))
    of_backbones = [norm for name, norm in norms.items() if belongs(name, FROZEN_PARTS)]
    assert len(of_backbones) > 150
    assert all((norm == 0) == is_shielded for norm in of_backbones)


@torch.no_grad()
def near_share(detector: WholeDetector, frames: PreparedFrames) -> float:
    """Return how much of its attention a query pays to what is within two cells of it."""
    head = detector.pts_bbox_head
    (batch,) = live_batches(frames, [[Place(1, 0, NOTHING), Place(2, 4, NOTHING)]])
    cameras = head.geometry(batch.img_from_lidar)
    places = torch.rand(2, 30, 3, generator=torch.Generator().manual_seed(5))
    cells, (rows, columns) = tiny().grid.bev_cells, tiny().camera_maps[0].shape[-2:]
    bev = head.bev_positions(cells, cells).expand(2, -1, -1)
    assert cameras is not None
    pixels = head.image_positions(cameras, rows, columns).flatten(1, 3)
    first = head.transformer["decoder"].layers[0].attentions[1].attn
    positions = head.query_positions(places, cameras)
    weights = log_attention(first, positions, torch.cat([bev, pixels], dim=1)).exp()
    to_bev = weights[..., : cells**2].unflatten(-1, (cells, cells))  # (B, heads, Q, Y, X)
    centres = torch.arange(cells) + 0.5
    near_x, near_y = ((centres - places[..., axis : axis + 1] * cells).abs() < 2 for axis in (0, 1))
    near = near_y.unsqueeze(-1) & near_x.unsqueeze(-2)  # (B, Q, Y, X)
    return float(((to_bev * near.unsqueeze(1)).sum(dim=(-1, -2)) / to_bev.sum(dim=(-1, -2))).mean())


def test_aimed_attention_looks_at_where_a_query_stands(frames: PreparedFrames) -> None:
    detector = whole_detector(tiny(), seed=0)
    before = near_share(detector, frames)
    order = EpochSampler(len(frames), 2, 0, variants=frames.variants)

    losses = aim_attention(detector, live_batches(frames, order), steps=120)

    assert before < 0.02  # 16 of 1,296 cells are 0.012
    assert near_share(detector, frames) > 0.05  # 0.46 after 600 steps
    assert losses[-1] < losses[0] - 1


def test_aiming_leaves_the_backbones_alone(frames: PreparedFrames) -> None:
    detector = whole_detector(tiny(), seed=0)
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    aim_attention(detector, live_batches(frames, EpochSampler(len(frames), 2, 0)), steps=1)
    after = detector.state_dict()
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert {name.partition(".")[0] for name in changed} == {"img_neck", "pts_bbox_head"}
    assert not any(".task_heads." in name or ".ffns." in name for name in changed)


def test_seeded_backbones_compute_the_same_in_train_mode(frames: PreparedFrames) -> None:
    detector = whole_detector(tiny(), seed=0).eval()
    (batch,) = live_batches(frames, [[Place(0, 1, NOTHING), Place(0, 4, NOTHING)]])
    with torch.no_grad():
        seeded = detector.features(batch)
        unadapted = detector.train().features(batch)
    detector.eval()
    detector.load_state_dict(whole_detector(tiny(), seed=0).state_dict())

    keep_in_train_mode(detector, batch)

    with torch.no_grad():
        adapted = detector.train().features(batch)
    for name, expected in seeded.items():
        largest = float(expected.abs().max())
        assert float((adapted[name] - expected).abs().max()) < 1e-4 * largest, name
        assert float((unadapted[name] - expected).abs().max()) > 0.1 * largest, name


def short(phase: Phase, steps: int, judge_every: int) -> Phase:
    recipe = replace(phase.recipe, steps=steps, batch_size=2, warmup_steps=2, checkpoint_every=2)
    return replace(phase, recipe=recipe, variants=2, judge_every=judge_every, ends_at=None)


def pretraining(out: Path, phases: Sequence[Phase]) -> Pretraining:
    return Pretraining(
        out=out, preset=tiny(), phases=phases, seeds=[1], world=SMALL, held_out=0, aim_steps=3
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Pretraining:
    """Two phases of four and two steps, judged in every second step, in one go."""
    out = tmp_path_factory.mktemp("pretraining")
    whole = pretraining(out, [short(shielded(), 4, 2), short(with_sweeps(), 2, 2)])
    whole.run()
    return whole


def weights(pretraining: Pretraining, phase: str) -> dict[str, Tensor]:
    content = read_checkpoint(pretraining.out / phase / CHECKPOINT)
    average: dict[str, Tensor] = content["ema"]
    return average


def test_the_curve_has_every_judgement(finished: Pretraining) -> None:
    curve = finished.curve()
    assert [(row["phase"], row["step"]) for row in curve] == [
        ("shielded", 2),
        ("shielded", 4),
        ("with_sweeps", 2),
    ]
    assert all(set(row["scores"]) == {"all", "no lidar", "no cameras"} for row in curve)


class KilledError(Exception):
    """Stands for whatever ends the process."""


def kill_at_training_pass(monkeypatch: pytest.MonkeyPatch, last: int) -> None:
    """Let the given forward pass in train mode, counted from 1, be the end of the process."""
    passes = 0
    forward = WholeDetector.forward

    def dying(detector: WholeDetector, batch: Batch, *rest: Any) -> HeadOutputs:
        nonlocal passes
        passes += detector.training
        if passes == last:
            raise KilledError
        return forward(detector, batch, *rest)

    monkeypatch.setattr(WholeDetector, "forward", dying)


def kill_before_judging(monkeypatch: pytest.MonkeyPatch, _: int) -> None:
    def dying(*_: object) -> NoReturn:
        raise KilledError

    monkeypatch.setattr(Pretraining, "_judge", dying)


def test_a_training_interrupted_three_times_ends_as_an_undisturbed_one(
    finished: Pretraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between training and judging, within the second round, and early in the second phase."""
    for shared_folder in ("data", "prepared"):
        (tmp_path / shared_folder).symlink_to(finished.out / shared_folder)
    interrupted = pretraining(tmp_path, finished.phases)
    for kill, moment, judged in (
        (kill_before_judging, 0, 0),
        (kill_at_training_pass, 2, 1),
        (kill_at_training_pass, 3, 2),
    ):
        with monkeypatch.context() as patch:
            kill(patch, moment)
            with pytest.raises(KilledError):
                interrupted.run()
        assert len(interrupted.curve()) == judged

    interrupted.run()

    for phase in ("shielded", "with_sweeps"):
        ours, theirs = weights(interrupted, phase), weights(finished, phase)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs), phase
    rows = zip(interrupted.curve(), finished.curve(), strict=True)
    assert all(ours["scores"] == theirs["scores"] for ours, theirs in rows)


def test_every_command_loads_the_checkpoint(
    finished: Pretraining, synthetic_root: Path, tmp_path: Path
) -> None:
    checkpoint, store, run = tmp_path / "tiny.pth", tmp_path / "train.zarr", tmp_path / "run"
    final = weights(finished, "with_sweeps")
    write_tiny_checkpoint(checkpoint, final, tiny(), step=2)
    where = ("--nuscenes", str(synthetic_root), "--version", "v1.0-mini", "--split", "mini_train")
    start = ("--checkpoint", str(checkpoint))
    assert extract_features(["tiny", *where, "--store", str(store), *start]) == 0
    words = (str(store), "--out", str(run), "--recipe", "tiny_from_scratch", *start)
    assert train_stage2([*words, "--stop-after", "0", "--workers", "0"]) == 0

    backbones, _ = frozen_backbones(tiny(), checkpoint)
    assert CachedFeatures(store).identity["weights"] == backbones.digests()
    loaded = backbones.state_dict() | read_checkpoint(run / CHECKPOINT)["state_dict"]
    official = {name: tensor for name, tensor in final.items() if part_of(name) in PARTS}
    assert final.keys() - official.keys() == {
        f"dense_heads.{sensor}.{kind}"
        for sensor in ("bev", "camera")
        for kind in ("weight", "bias")
    }
    assert loaded.keys() == official.keys()
    for name, tensor in official.items():
        expected = tensor.half().float() if tensor.dim() > 1 else tensor
        assert torch.equal(loaded[name], expected), name
    assert checkpoint.stat().st_size < 6e6


def test_the_best_judgement_of_a_phase_is_kept(finished: Pretraining) -> None:
    scores = [row["scores"]["all"]["mAP"] for row in finished.curve() if row["sweeps"] == 0]
    content = read_checkpoint(finished.out / "shielded" / BEST)
    assert content["meta"]["frozen_cmt"]["step"] == (2 if scores[0] >= scores[1] else 4)


def test_the_phases_have_names_of_their_own_and_end_as_the_preset_says() -> None:
    phases = [make() for make in PHASES]
    assert len({phase.recipe.name for phase in phases}) == len(phases)
    lidar = tiny().lidar
    assert lidar is not None
    assert phases[-1].sweeps == lidar.sweeps
