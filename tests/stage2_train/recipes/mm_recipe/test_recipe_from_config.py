"""A config of mm becomes the recipe it describes; what cannot be followed is named."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.experiments.strategies.live_recipes import finetune_low
from cache.reader import CachedFeatures
from shared.config.aqr_config import AqrConfig
from shared.config.preset_catalogue import (
    camera_vov_1600x640,
    lidar_voxel0075,
    r50_800x320,
    tiny,
)
from shared.data.sensor_drop import SensorDrop
from shared.errors import ConfigError
from stage2_train.__main__ import main as train_stage2
from stage2_train.recipes.mm_recipe.recipe_from_config import (
    ConfigRecipe,
    recipe_for_store,
    recipe_from_config,
)
from stage2_train.recipes.recipe import Recipe
from stage2_train.recipes.recipes import frozen_a, frozen_b
from tests.stage1_extract.mm_config.official_configs import Config, changed, without
from tests.stage2_train.recipes.mm_recipe.training_configs import (
    STRATEGIES,
    mmcv_training,
    mmengine_training,
)

Read = Callable[[Config], ConfigRecipe]
KEYS = "optimizer.paramwise_cfg.custom_keys"
HEAD = "model.pts_bbox_head"
EXPECTED = Recipe(
    name="config",
    aqr=AqrConfig(),
    sensor_drop=SensorDrop(),
    class_balanced=True,
    epochs=20,
    batch_size=16,
    lr_multipliers=(("img_neck", 0.1),),
)


def write(path: Path, config: Config) -> Path:
    path.write_text("\n".join(f"{key} = {value!r}" for key, value in config.items()))
    return path


@pytest.fixture
def read(tmp_path: Path) -> Read:
    return lambda config: recipe_from_config(write(tmp_path / "config.py", config), r50_800x320())


def refusal(read: Read, config: Config) -> str:
    with pytest.raises(ConfigError) as caught:
        read(config)
    return str(caught.value)


@pytest.mark.parametrize("make", [mmcv_training, mmengine_training])
def test_both_dialects_give_the_same_recipe(read: Read, make: Callable[[], Config]) -> None:
    recipe, live, _ = read(make())
    assert recipe.rising_share == pytest.approx(0.4, abs=1e-12)
    assert recipe.peak_ratio == pytest.approx(6, abs=1e-12)
    assert recipe.final_ratio == pytest.approx(1e-4, abs=1e-12)
    rounded = replace(recipe, rising_share=0.4, peak_ratio=6.0, final_ratio=1e-4)
    assert rounded == EXPECTED
    assert not live


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("frozen_a", frozen_a()),
        ("frozen_b", frozen_b()),
        ("finetune_low", finetune_low(frozen_a(), with_sparse_encoder=True)),
    ],
)
def test_the_strategies_of_the_plan_are_our_recipes(file: str, expected: Recipe) -> None:
    assert recipe_from_config(STRATEGIES / f"{file}.py", r50_800x320()).recipe == expected


def test_a_config_that_trains_backbones_is_refused_with_the_way_out() -> None:
    with pytest.raises(
        ConfigError,
        match=r"finetune_low\.py trains pts_middle_encoder \(x0\.05\), pts_backbone \(x0\.05\), "
        r"img_backbone \(x0\.01\), whose output a store holds .*pts_backbone=dict\(lr_mult=0\)",
    ):
        recipe_for_store(STRATEGIES / "finetune_low.py", r50_800x320())


def test_a_backbone_without_a_key_is_trained_at_the_full_rate(read: Read) -> None:
    assert read(without(mmcv_training(), f"{KEYS}.pts_backbone")).live == {"pts_backbone": 1.0}


def test_a_detector_of_one_sensor_has_no_other_backbone(tmp_path: Path) -> None:
    config = mmcv_training(aqr=False)
    keys = config["optimizer"]["paramwise_cfg"]["custom_keys"]
    del keys["img_backbone"], keys["img_neck"]
    file = write(tmp_path / "config.py", config)
    assert not recipe_from_config(file, lidar_voxel0075()).live
    assert recipe_from_config(file, camera_vov_1600x640()).live == {"img_backbone": 1.0}


def test_the_decay_of_a_backbone_is_only_noted(read: Read) -> None:
    config = changed(mmcv_training(), f"{KEYS}.img_backbone", {"lr_mult": 0.01, "decay_mult": 5})
    _, live, notes = read(config)
    assert live == {"img_backbone": 0.01}
    assert "custom_keys['img_backbone']: decay_mult 5 is not followed" in notes


def test_backbones_that_stay_frozen_beside_a_trained_one_are_named(read: Read) -> None:
    config = changed(mmcv_training(), f"{KEYS}.img_backbone", {"lr_mult": 0.01, "decay_mult": 1})
    recipe = read(config).recipe
    assert recipe.frozen == ("pts_middle_encoder", "pts_backbone")
    assert ("img_backbone", 0.01) in recipe.lr_multipliers


@pytest.mark.parametrize(
    ("path", "value", "changes"),
    [
        ("optimizer.lr", 2e-4, {"learning_rate": 2e-4}),
        ("optimizer.weight_decay", 0.1, {"weight_decay": 0.1}),
        ("optimizer_config.grad_clip.max_norm", 10, {"clip_norm": 10.0}),
        ("optimizer_config.type", "OptimizerHook", {"precision": "32-true"}),
        ("lr_config.step_ratio_up", 0.3, {"rising_share": 0.3}),
        (
            "lr_config",
            {
                "policy": "CosineAnnealing",
                "warmup": "linear",
                "warmup_iters": 300,
                "warmup_ratio": 1 / 3,
                "min_lr_ratio": 1e-3,
            },
            {"schedule": "cosine", "warmup_steps": 300, "final_ratio": 1e-3},
        ),
        ("runner", {"type": "EpochBasedRunner", "max_epochs": 6}, {"epochs": 6}),
        ("runner", {"type": "IterBasedRunner", "max_iters": 9}, {"epochs": None, "steps": 9}),
        ("data.samples_per_gpu", 4, {"batch_size": 32}),
        ("gpu_ids", [0, 1], {"batch_size": 4}),
        ("data.train.type", "CBGSDataset", {}),
        ("data.train.dataset.pipeline", [], {"sensor_drop": None}),
        (f"{HEAD}.enable_aqr", False, {"aqr": None}),
        (f"{HEAD}.attention_bias_config.bias_scale", 1.0, {"aqr": AqrConfig(initial_scale=1.0)}),
        (f"{HEAD}.attention_bias_config.max_scale", 4, {"aqr": AqrConfig(max_scale=4.0)}),
        (f"{HEAD}.attention_bias_config.use_local_bias", False, {"aqr": AqrConfig(reach="sensor")}),
        (
            f"{HEAD}.attention_bias_config.use_gaussian_window",
            True,
            {"aqr": AqrConfig(profile="gaussian")},
        ),
        (
            f"{HEAD}.attention_bias_config.learnable_scale",
            False,
            {"frozen": ("pts_bbox_head.attention_bias_generator",)},
        ),
        (
            f"{HEAD}.attention_bias_config",
            None,
            {"aqr": AqrConfig(effect="modulation", residual=0.6, splat_cells=1.5)},
        ),
        (
            f"{HEAD}.aqr_config.encoder_config.transformerlayers.ffn_cfgs.ffn_drop",
            0.2,
            {"aqr": AqrConfig(dropout=0.2)},
        ),
    ],
)
def test_a_setting_lands_in_its_field(
    read: Read, path: str, value: object, changes: dict[str, Any]
) -> None:
    assert read(changed(mmcv_training(), path, value)).recipe == replace(EXPECTED, **changes)


def test_windows_keep_their_reach(read: Read) -> None:
    config = changed(mmcv_training(), f"{HEAD}.aqr_config.window_sizes", [15, 8])
    config = changed(config, f"{HEAD}.attention_bias_config.window_size", 15)
    assert read(config).recipe.aqr == AqrConfig(camera_window=15, bev_window=9)


def test_the_mmengine_forms_of_a_cosine_and_of_steps_are_read(read: Read) -> None:
    config = mmengine_training()
    config["train_cfg"] = {"type": "IterBasedTrainLoop", "max_iters": 900}
    config["param_scheduler"] = [
        {"type": "LinearLR", "start_factor": 1e-3, "by_epoch": False, "begin": 0, "end": 50},
        {"type": "CosineAnnealingLR", "T_max": 900, "eta_min_ratio": 1e-3, "by_epoch": False},
    ]
    recipe = read(config).recipe
    assert (recipe.steps, recipe.epochs, recipe.schedule) == (900, None, "cosine")
    assert (recipe.warmup_steps, recipe.final_ratio) == (50, 1e-3)


def test_a_factor_of_zero_freezes_and_says_so(read: Read) -> None:
    config = changed(mmcv_training(), f"{KEYS}.img_neck", {"lr_mult": 0})
    recipe, _, notes = read(changed(config, f"{KEYS}.transformer", {"lr_mult": 0.0}))
    assert recipe.frozen == ("img_neck", "pts_bbox_head.transformer")
    said = "\n".join(notes)
    assert "custom_keys['img_neck']: lr_mult 0 freezes img_neck: no gradient" in said
    assert "lr_mult 0 freezes pts_bbox_head.transformer: no gradient, BatchNorm in eval" in said


def test_a_frozen_part_with_a_trained_piece_is_refused(read: Read) -> None:
    config = changed(mmcv_training(), f"{KEYS}.task_heads", {"lr_mult": 0})
    keys = config["optimizer"]["paramwise_cfg"]["custom_keys"]
    keys["task_heads.0.center"] = {"lr_mult": 1.0}
    message = refusal(read, config)
    assert "would freeze pts_bbox_head.task_heads.0.center." in message
    assert " as well, which 'task_heads.0.center' trains" in message


def test_single_parameters_beside_others_cannot_be_frozen(read: Read) -> None:
    message = refusal(read, changed(mmcv_training(), f"{KEYS}.rv_type_embed", {"lr_mult": 0}))
    assert "which no key names; only whole modules can be frozen" in message


def test_a_fixed_scale_has_no_rate(read: Read) -> None:
    config = changed(mmcv_training(), f"{HEAD}.attention_bias_config.learnable_scale", False)
    recipe = read(changed(config, f"{KEYS}.attention_bias_generator", {"lr_mult": 1.0})).recipe
    assert recipe == replace(EXPECTED, frozen=("pts_bbox_head.attention_bias_generator",))


def test_the_scale_can_be_frozen_by_its_key(read: Read) -> None:
    recipe = read(changed(mmcv_training(), f"{KEYS}.bias_scale", {"lr_mult": 0})).recipe
    assert recipe == replace(EXPECTED, frozen=("pts_bbox_head.attention_bias_generator",))


def test_keys_that_match_nothing_are_named(read: Read) -> None:
    config = changed(mmcv_training(), f"{KEYS}.query_embed", {"lr_mult": 0.3})
    config = changed(config, f"{KEYS}.transformr", {"lr_mult": 0.3})
    recipe, _, notes = read(config)
    assert recipe.lr_multipliers == EXPECTED.lr_multipliers
    said = "\n".join(notes)
    assert "custom_keys['query_embed'] is contained in no parameter's name, so it has no" in said
    assert "bev_embedding and rv_embedding" in said
    assert "custom_keys['transformr'] is contained in no parameter's name" in said
    assert "near: transformer" in said


def test_a_name_that_the_file_uses_itself_is_not_reported(tmp_path: Path) -> None:
    file = write(tmp_path / "a.py", mmcv_training())
    text = file.read_text() + "\nepochs = 7\nunused = 8\ntotal_epochs = epochs\n"
    file.write_text(text)
    recipe, _, notes = recipe_from_config(file, r50_800x320())
    assert recipe.epochs == 7
    assert any(note.endswith("nothing here reads: unused") for note in notes)


def test_what_differs_from_mm_is_noted(read: Read) -> None:
    config = mmcv_training() | {"load_from": "cmt.pth", "my_hook": {"a": 1}}
    said = "\n".join(read(config).notes)
    assert "momentum_config is not followed: AdamW's first beta stays 0.9" in said
    assert "a batch is 16 samples, 2 on each of 8 GPUs, as many as CMT trains on; --set" in said
    assert "UnifiedObjectSample, GlobalRotScaleTransAll have no effect" in said
    assert "load_from = 'cmt.pth' is not read; name a checkpoint with --checkpoint" in said
    assert "top-level names that nothing here reads: my_hook" in said
    assert "loss scale ('dynamic' in the config) adapts itself" in said


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("optimizer.type", "SGD", "optimizer.type = 'SGD': only AdamW is supported"),
        ("optimizer.betas", (0.9, 0.99), "optimizer.betas = (0.9, 0.99): only (0.9, 0.999)"),
        ("optimizer.lrr", 1, "optimizer.lrr = 1: unknown field"),
        ("optimizer.paramwise_cfg.bypass", 1, "paramwise_cfg.bypass = 1: unknown field"),
        (f"{KEYS}.pts_neck", {"lr_mul": 1}, "custom_keys.pts_neck.lr_mul = 1: unknown field"),
        (f"{KEYS}.pts_neck", {"decay_mult": 5}, "custom_keys['pts_neck']: decay_mult 5"),
        ("optimizer_config.grad_clip", None, "optimizer_config.grad_clip: missing"),
        ("lr_config.policy", "step", "lr_config.policy = 'step': only 'cyclic' or 'Cos"),
        ("total_epochs", None, "total_epochs: missing; it must be a whole number"),
        ("data.train.type", "RepeatDataset", "only CBGSDataset is supported"),
        ("data.train.dataset.load_interval", 4, "load_interval = 4: only 1 is supported"),
        (f"{HEAD}.atention_bias_config", {}, "pts_bbox_head.atention_bias_config = {}: unknown"),
        (f"{HEAD}.aqr_config.window_sizes", [8], "window_sizes = [8]: 2 numbers are expected"),
        (
            f"{HEAD}.aqr_config.bev_feature_shape",
            (180, 180),
            "bev_feature_shape = (180, 180): only (128, 128) is supported",
        ),
        (
            f"{HEAD}.attention_bias_config.window_size",
            15,
            "window_size = 15: disagrees with model.pts_bbox_head.aqr_config.window_sizes",
        ),
        (f"{HEAD}.attention_bias_config.bias_scale", 9.0, "initial_scale 9.0 must lie between"),
        ("optimizer.lr", -1.0, "recipe config: learning_rate must be above 0"),
    ],
)
def test_what_cannot_be_followed_is_named(
    read: Read, path: str, value: object, message: str
) -> None:
    assert message in refusal(read, changed(mmcv_training(), path, value))


def test_all_faults_are_listed_at_once(read: Read) -> None:
    config = changed(mmcv_training(), "optimizer.type", "SGD")
    message = refusal(read, changed(config, "lr_config.policy", "step"))
    assert "does not describe training that stage 2 has:\n" in message
    assert "optimizer.type" in message
    assert "lr_config.policy" in message
    assert message.endswith("write a function that returns a Recipe")


def test_a_second_model_that_drops_the_first_is_named(tmp_path: Path) -> None:
    file = write(tmp_path / "v2.py", mmcv_training())
    file.write_text(file.read_text() + "\nmodel = dict(img_neck=dict(norm_eval=True))\n")
    with pytest.raises(ConfigError, match=r"v2\.py assigns `model` at line 2 and again at line"):
        recipe_from_config(file, r50_800x320())


def test_a_detector_without_aqr_needs_no_head(read: Read) -> None:
    config = mmcv_training(aqr=False)
    assert read(config).recipe.aqr is None
    del config["model"]["pts_bbox_head"]
    assert read(config).recipe == replace(EXPECTED, aqr=None)


def test_train_stage2_follows_a_config(
    tiny_store: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = copy.deepcopy(mmcv_training(aqr=False))
    file = write(tmp_path / "mine.py", config)
    where = [str(tiny_store), "--out", str(tmp_path / "run"), "--stop-after", "1"]
    assert train_stage2([*where, "--config", str(file), "--set", "batch_size=2"]) == 0
    assert "momentum_config" in caplog.text
    text = (tmp_path / "run" / "config.json").read_text()
    assert '"name": "mine"' in text
    assert CachedFeatures(tiny_store).preset == tiny()


def test_a_config_instead_of_a_recipe_not_beside_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        train_stage2(["s.zarr", "--out", "r", "--recipe", "cmt", "--config", "a.py"])
    assert "not allowed with argument" in capsys.readouterr().err
