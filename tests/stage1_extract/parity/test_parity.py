"""Parity holds for a good store and fails for a bad one: a check that cannot fail is useless."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from cache.reader import CachedFeatures
from shared.config.aqr_config import AqrConfig
from shared.config.config_json import to_json
from shared.config.cut import Cut
from shared.config.preset import Preset
from shared.config.preset_catalogue import tiny
from shared.data.features import FrameFeatures
from shared.model.initial_detector import fresh_detector
from stage1_extract.backbones.live import LiveFeatures
from stage1_extract.backbones.weights import frozen_backbones
from stage1_extract.check_parity import main as check_parity_command
from stage1_extract.nuscenes.nuscenes_tables import read_tables
from stage1_extract.parity.compare_sources import compare_sources, feature_steps
from stage1_extract.parity.parity_tolerances import TRAINED_HEAD

Change = Callable[[FrameFeatures], FrameFeatures]


class Changed:
    """A source in which every frame is changed."""

    def __init__(self, source: CachedFeatures, change: Change) -> None:
        self.source = source
        self.change = change

    @property
    def preset(self) -> Preset:
        return self.source.preset

    @property
    def cut(self) -> Cut:
        return self.source.cut

    @property
    def tokens(self) -> tuple[str, ...]:
        return self.source.tokens

    def read(self, tokens: Sequence[str], variant: int = 0) -> list[FrameFeatures]:
        return [self.change(frame) for frame in self.source.read(tokens, variant)]


@pytest.fixture(scope="module")
def store(tiny_store: Path) -> CachedFeatures:
    return CachedFeatures(tiny_store)


@pytest.fixture(scope="module")
def live(synthetic_root: Path, store: CachedFeatures) -> LiveFeatures:
    records = read_tables(synthetic_root, "v1.0-mini", "mini_train")
    return LiveFeatures(records, frozen_backbones(store.preset, None)[0])


def test_the_command_passes_a_good_store_and_writes_its_comparison(
    tiny_store: Path, synthetic_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "parity.json"

    status = check_parity_command(
        [str(tiny_store), "--nuscenes", str(synthetic_root), "--json", str(out)]
    )

    assert status == 0, capsys.readouterr().err
    document = json.loads(out.read_text())
    assert document["passed"] is True
    compared = {(row["quantity"], row["batch_size"]) for row in document["rows"]}
    for batch_size in (1, 2):
        assert ("camera/stride16", batch_size) in compared
        assert ("output class_logits", batch_size) in compared
        assert ("loss dn_loss_bbox", batch_size) in compared
        assert ("gradient pts_bbox_head.shared_conv", batch_size) in compared
        assert ("decoded boxes", batch_size) in compared


def test_the_head_to_compare_can_come_from_a_checkpoint(
    tiny_store: Path, synthetic_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head = tmp_path / "head.pt"
    torch.save({"state_dict": fresh_detector(tiny(), seed=1).state_dict()}, head)
    command = [str(tiny_store), "--nuscenes", str(synthetic_root), "--samples", "1", "--head"]

    assert check_parity_command([*command, str(head)]) == 0
    printed = capsys.readouterr().out
    assert check_parity_command([*command, str(tmp_path / "none.pt")]) == 1

    assert f"{TRAINED_HEAD.gradient:.3g}  of norm" in printed
    assert "none.pt does not exist" in capsys.readouterr().err


def test_parity_holds_for_a_head_with_aqr(
    tiny_store: Path, synthetic_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    aqr = AqrConfig(start="upstream", ffn_width=32)
    state = fresh_detector(tiny(), seed=1, aqr=aqr).state_dict()
    torch.save({"state_dict": state, "aqr": to_json(aqr)}, tmp_path / "head.pt")
    command = [str(tiny_store), "--nuscenes", str(synthetic_root), "--samples", "2"]

    assert check_parity_command([*command, "--head", str(tmp_path / "head.pt")]) == 0

    printed = capsys.readouterr().out
    assert "gradient pts_bbox_head.aqr_weight_generator" in printed
    assert "gradient pts_bbox_head.attention_bias_generator" in printed


def scaled(name: str, factor: float) -> Change:
    def change(frame: FrameFeatures) -> FrameFeatures:
        maps = {**frame.maps, name: (frame.maps[name] * np.float16(factor)).astype(np.float16)}
        return dataclasses.replace(frame, maps=maps)

    return change


def moved_camera(features: FrameFeatures) -> FrameFeatures:
    matrices = features.frame.img_from_lidar.copy()
    matrices[0, 0, 3] += 1e-9
    frame = dataclasses.replace(features.frame, img_from_lidar=matrices)
    return dataclasses.replace(features, frame=frame)


@pytest.mark.parametrize(
    ("change", "quantity"),
    [
        (scaled("camera/stride16", 1.01), "camera/stride16"),
        (scaled("lidar/stride16", 0.99), "lidar/stride16"),
        (moved_camera, "geometry and annotations"),
    ],
    ids=["camera features", "LiDAR features", "camera matrix"],
)
def test_a_changed_store_fails(
    change: Change, quantity: str, store: CachedFeatures, live: LiveFeatures
) -> None:
    rows = compare_sources(live, Changed(store, change), samples=2)

    failed = {row.quantity for row in rows if not row.passed}
    assert quantity in failed


def test_noise_on_all_features_fails_every_kind_of_comparison(
    store: CachedFeatures, live: LiveFeatures
) -> None:
    def all_maps(frame: FrameFeatures) -> FrameFeatures:
        random = np.random.default_rng(0)
        maps = {
            name: (values * random.normal(1, 0.3, values.shape)).astype(np.float16)
            for name, values in frame.maps.items()
        }
        return dataclasses.replace(frame, maps=maps)

    rows = compare_sources(live, Changed(store, all_maps), samples=1)

    kinds = {row.quantity.split(" ")[0] for row in rows if not row.passed}
    assert {"output", "loss", "gradient", "decoded"} <= kinds


def test_features_that_are_not_finite_fail(store: CachedFeatures, live: LiveFeatures) -> None:
    live_values = np.ones(3, np.float32)

    assert np.isnan(feature_steps(live_values, np.array([1, np.nan, 1], np.float16)))


@pytest.mark.parametrize(
    ("live_value", "cached_value", "steps"),
    [
        (1.0, 1.0, 0.0),
        (1.0, 1.0 + 2**-10, 1.0),
        (1.0 + 2**-11, 1.0, 0.5),
        (-4.0, -4.0 - 2**-8, 1.0),
        (0.0, 2**-24, 1.0),  # the smallest float16 there is
    ],
)
def test_distances_are_counted_in_float16_steps(
    live_value: float, cached_value: float, steps: float
) -> None:
    measured = feature_steps(
        np.array([live_value], np.float32), np.array([cached_value], np.float16)
    )

    assert measured == pytest.approx(steps)


def test_a_store_made_with_other_weights_is_refused_with_the_field(
    tiny_store: Path,
    synthetic_root: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stage1_extract.backbones.weights.SEED", 1)

    status = check_parity_command([str(tiny_store), "--nuscenes", str(synthetic_root)])

    assert status == 1
    assert "weights.img_backbone" in capsys.readouterr().err
