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
from stage1_extract.parity.compare_sources import Extent, compare_sources

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

    def read(
        self, tokens: Sequence[str], variant: int = 0, camera_variant: int | None = None
    ) -> list[FrameFeatures]:
        frames = self.source.read(tokens, variant, camera_variant)
        return [self.change(frame) for frame in frames]


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

    assert "gradient pts_bbox_head.transformer" in printed
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

    rows = compare_sources(live, Changed(store, all_maps), Extent(rows=1))

    kinds = {row.quantity.split(" ")[0] for row in rows if not row.passed}
    assert {"output", "loss", "gradient", "decoded"} <= kinds


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
