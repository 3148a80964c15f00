"""Training settings as CMT's configs have them, in our own words, in both dialects of mm.

The three strategies of the plan are files as a user would write them, in examples/configs.
"""

from pathlib import Path

from tests.stage1_extract.mm_config.official_configs import Config, mmcv_config

STRATEGIES = Path(__file__).parents[4] / "examples" / "configs"
PIPELINE = [
    {"type": "LoadPointsFromFile", "coord_type": "LIDAR"},
    {"type": "UnifiedObjectSample", "mixup_rate": 0.5},
    {"type": "ModalMask3D", "mode": "train"},
    {"type": "GlobalRotScaleTransAll", "scale_ratio_range": [0.9, 1.1]},
    {"type": "Collect3D", "keys": ["points", "img"]},
]
ENCODER = {
    "type": "PETRTransformerDecoder",
    "return_intermediate": True,
    "num_layers": 1,
    "transformerlayers": {
        "type": "PETRTransformerDecoderLayer",
        "attn_cfgs": [
            {
                "type": "PETRMultiheadFlashAttention",
                "embed_dims": 256,
                "num_heads": 4,
                "dropout": 0.1,
            }
        ],
        "ffn_cfgs": {
            "type": "FFN",
            "embed_dims": 256,
            "feedforward_channels": 1024,
            "num_fcs": 2,
            "ffn_drop": 0.1,
            "act_cfg": {"type": "ReLU", "inplace": True},
        },
        "feedforward_channels": 1024,
        "operation_order": ("cross_attn", "norm", "ffn", "norm"),
    },
}
SHAPES = {"bev_feature_shape": (128, 128), "pers_feature_shape": (6, 20, 50)}
AQR = {
    "enable_aqr": True,
    "debug_mode": True,
    "aqr_config": {
        "embed_dims": 256,
        "window_sizes": [8, 5],
        "use_type_embed": True,
        "encoder_config": ENCODER,
        **SHAPES,
    },
    "attention_bias_config": {
        "type": "AttentionBiasGenerator",
        "window_size": 8,
        "bias_scale": 2.5,
        "learnable_scale": True,
        "min_scale": 0.5,
        "max_scale": 5.0,
        "use_local_bias": True,
        "use_gaussian_window": False,
        "gaussian_sigma": 2.0,
        "debug_print": True,
        "fp16": True,
        **SHAPES,
    },
    "renderer_config": {"render_method": "gaussian", "gaussian_sigma": 1.5, **SHAPES},
    "modulator_config": {"type": "FeatureModulator", "residual_weight": 0.6},
}
FROZEN = {key: {"lr_mult": 0.0} for key in ("img_backbone", "pts_backbone", "pts_middle_encoder")}


def mmcv_training(*, aqr: bool = True) -> Config:
    """Return a whole config in the form of mmcv 1.x that trains nothing before the necks."""
    config = mmcv_config("r50_800x320")
    if aqr:
        config["model"]["pts_bbox_head"] |= AQR
    dataset = {"type": "CustomNuScenesDataset", "pipeline": PIPELINE}
    config["data"] |= {
        "samples_per_gpu": 2,
        "train": {"type": "CBGSDataset", "dataset": dataset},
    }
    return config | {
        "optimizer": {
            "type": "AdamW",
            "lr": 1.4e-4,
            "weight_decay": 0.01,
            "paramwise_cfg": {"custom_keys": {**FROZEN, "img_neck": {"lr_mult": 0.1}}},
        },
        "optimizer_config": {
            "type": "CustomFp16OptimizerHook",
            "loss_scale": "dynamic",
            "grad_clip": {"max_norm": 35, "norm_type": 2},
            "custom_fp16": {"pts_bbox_head": False},
        },
        "lr_config": {
            "policy": "cyclic",
            "target_ratio": (6, 1e-4),
            "cyclic_times": 1,
            "step_ratio_up": 0.4,
        },
        "momentum_config": {"policy": "cyclic", "target_ratio": (0.85 / 0.95, 1)},
        "total_epochs": 20,
    }


def mmengine_training() -> Config:
    """Return the same training in the form of mmengine."""
    config = mmcv_training()
    optimizer, data = config.pop("optimizer"), config.pop("data")
    for name in ("optimizer_config", "lr_config", "momentum_config", "total_epochs"):
        del config[name]
    cosine = {"by_epoch": True, "convert_to_iter_based": True}
    return config | {
        "optim_wrapper": {
            "type": "AmpOptimWrapper",
            "loss_scale": "dynamic",
            "paramwise_cfg": optimizer.pop("paramwise_cfg"),
            "optimizer": optimizer,
            "clip_grad": {"max_norm": 35, "norm_type": 2},
        },
        "train_dataloader": {"batch_size": 4, "num_workers": 4, "dataset": data["train"]},
        "auto_scale_lr": {"enable": False, "base_batch_size": 16},
        "train_cfg": {"by_epoch": True, "max_epochs": 20, "val_interval": 20},
        "param_scheduler": [
            {"type": "CosineAnnealingLR", "T_max": 8, "eta_min": 8.4e-4, "begin": 0, "end": 8}
            | cosine,
            {"type": "CosineAnnealingLR", "T_max": 12, "eta_min": 1.4e-8, "begin": 8, "end": 20}
            | cosine,
            {"type": "CosineAnnealingMomentum", "T_max": 8, "begin": 0, "end": 8} | cosine,
        ],
    }
