"""Configs with the content of the official configs, in our own words, in both dialects of mm."""

import copy
from typing import Any

from shared.config.classes import CLASS_NAMES

Config = dict[str, Any]

RANGE = [-54.0, -54.0, -5.0, 54.0, 54.0, 3.0]
CODES = [2.0, 2.0] + [1.0] * 6 + [0.2, 0.2]
FILES = {"coord_type": "LIDAR", "load_dim": 5, "use_dim": [0, 1, 2, 3, 4]}
NORM = {"type": "BN", "eps": 1e-3, "momentum": 0.01}
RESNET = {"type": "ResNet", "depth": 50, "out_indices": (2, 3), "norm_eval": True, "with_cp": True}
VOVNET = {"type": "VoVNet", "spec_name": "V-99-eSE", "out_features": ("stage4", "stage5")}


def camera_sections(backbone: Config, channels: list[int]) -> Config:
    neck = {"type": "CPFPN", "in_channels": channels, "out_channels": 256, "num_outs": 2}
    return {"img_backbone": backbone, "img_neck": neck}


def lidar_sections(side: int, voxel: list[float]) -> Config:
    return {
        "pts_voxel_layer": {
            "num_point_features": 5,
            "max_num_points": 10,
            "max_voxels": (120000, 160000),
            "voxel_size": voxel,
            "point_cloud_range": RANGE,
        },
        "pts_voxel_encoder": {"type": "HardSimpleVFE", "num_features": 5},
        "pts_middle_encoder": {
            "type": "SparseEncoder",
            "in_channels": 5,
            "sparse_shape": [41, side, side],
            "encoder_channels": ((16, 16, 32), (32, 32, 64), (64, 64, 128), (128, 128)),
            "encoder_paddings": ((0, 0, 1), (0, 0, 1), (0, 0, [0, 1, 1]), (0, 0)),
            "block_type": "basicblock",
        },
        "pts_backbone": {
            "type": "SECOND",
            "in_channels": 256,
            "out_channels": [128, 256],
            "layer_nums": [5, 5],
            "layer_strides": [1, 2],
            "norm_cfg": NORM,
        },
        "pts_neck": {
            "type": "SECONDFPN",
            "in_channels": [128, 256],
            "out_channels": [256, 256],
            "upsample_strides": [1, 2],
            "norm_cfg": NORM,
            "use_conv_for_no_stride": True,
        },
    }


def head_section(sensors: str, voxel: list[float], kernel: int) -> Config:
    attention = {"embed_dims": 256, "num_heads": 8, "dropout": 0.1}
    layer = {
        "type": "PETRTransformerDecoderLayer",
        "attn_cfgs": [
            {"type": "MultiheadAttention", **attention},
            {"type": "PETRMultiheadFlashAttention", **attention},
        ],
        "ffn_cfgs": {"type": "FFN", "embed_dims": 256, "feedforward_channels": 1024},
        "feedforward_channels": 1024,
        "operation_order": ("self_attn", "norm", "cross_attn", "norm", "ffn", "norm"),
    }
    decoder = {
        "type": "PETRTransformerDecoder",
        "return_intermediate": True,
        "num_layers": 6,
        "transformerlayers": layer,
    }
    return {
        "type": f"Cmt{sensors}Head",
        "in_channels": 512,
        "hidden_dim": 256,
        "tasks": [{"num_class": 10, "class_names": list(CLASS_NAMES)}],
        "bbox_coder": {
            "type": "MultiTaskBBoxCoder",
            "post_center_range": [-61.2, -61.2, -10.0, 61.2, 61.2, 10.0],
            "pc_range": RANGE,
            "max_num": 300,
            "voxel_size": voxel,
        },
        "separate_head": {"type": "SeparateTaskHead", "final_kernel": kernel},
        "transformer": {"type": f"Cmt{sensors}Transformer", "decoder": decoder},
        "loss_cls": {"type": "FocalLoss", "loss_weight": 2.0},
        "loss_bbox": {"type": "L1Loss", "loss_weight": 0.25},
    }


def training_section(side: int, voxel: list[float]) -> Config:
    assigner = {
        "type": "HungarianAssigner3D",
        "cls_cost": {"type": "FocalLossCost", "weight": 2.0},
        "reg_cost": {"type": "BBox3DL1Cost", "weight": 0.25},
        "iou_cost": {"type": "IoUCost", "weight": 0.0},
        "pc_range": RANGE,
        "code_weights": CODES,
    }
    return {
        "assigner": assigner,
        "grid_size": [side, side, 40],
        "voxel_size": voxel,
        "out_size_factor": 8,
        "code_weights": CODES,
        "point_cloud_range": RANGE,
    }


def points_steps() -> list[Config]:
    return [
        {"type": "LoadPointsFromFile", **FILES},
        {"type": "LoadPointsFromMultiSweeps", "sweeps_num": 10, "use_dim": [0, 1, 2, 3, 4]},
    ]


def image_steps(size: tuple[int, int], resize_lim: tuple[float, float]) -> list[Config]:
    conf = {"resize_lim": resize_lim, "final_dim": size, "H": 900, "W": 1600, "rand_flip": True}
    zeros = {"bot_pct_lim": (0.0, 0.0), "rot_lim": (0.0, 0.0)}
    means, deviations = [103.53, 116.28, 123.675], [57.375, 57.12, 58.395]
    return [
        {"type": "ResizeCropFlipImage", "data_aug_conf": conf | zeros, "training": False},
        {"type": "NormalizeMultiviewImage", "mean": means, "std": deviations, "to_rgb": False},
        {"type": "PadMultiViewImage", "size_divisor": 32},
    ]


def mmcv_config(name: str) -> Config:
    """Return the content of the official config of this preset, in the form of mmcv 1.x."""
    large = name != "r50_800x320"
    side, voxel = (1440, [0.075, 0.075, 0.2]) if large else (1024, [0.1, 0.1, 0.2])
    sensors = {"lidar_voxel0075": "Lidar", "camera_vov_1600x640": "Image"}.get(name, "")
    images = image_steps(*(((640, 1600), (0.94, 1.25)) if large else ((320, 800), (0.47, 0.625))))
    backbone, channels = (VOVNET, [768, 1024]) if large else (RESNET, [1024, 2048])
    model: Config = {"type": "CmtDetector"} | ({} if sensors else {"use_grid_mask": True})
    if sensors != "Lidar":
        model |= camera_sections(backbone, channels)
    if sensors != "Image":
        model |= lidar_sections(side, voxel)
    head = head_section(sensors, voxel, kernel=3 if sensors == "Lidar" else 1)
    training = training_section(side, voxel)
    testing = {"grid_size": [side, side, 40], "pc_range": RANGE[:2], "max_num": 200}
    wrapper = {
        "type": "MultiScaleFlipAug3D",
        "img_scale": (1333, 800),
        "flip": False,
        "transforms": [
            {"type": "RandomFlip3D"},
            *([] if sensors == "Lidar" else images),
            {"type": "Collect3D", "keys": ["points", "img"]},
        ],
    }
    points = [] if sensors == "Image" else points_steps()
    return copy.deepcopy(
        {
            "class_names": list(CLASS_NAMES),
            "model": model
            | {
                "pts_bbox_head": head,
                "train_cfg": {"pts": training},
                "test_cfg": {"pts": testing},
            },
            "data": {"test": {"pipeline": [*points, wrapper]}},
            "optimizer": {"type": "AdamW", "lr": 1e-4},
        }
    )


def mmdet3d_config(name: str) -> Config:
    """Return the same in the form of mmdet3d 1.x."""
    config = mmcv_config(name)
    model = config["model"]
    *points, wrapper = config.pop("data")["test"]["pipeline"]
    steps = [step for step in wrapper["transforms"] if step["type"] != "Collect3D"]
    pipeline = [*points, *steps, {"type": "Pack3DDetInputs", "keys": ["img", "points"]}]
    config["test_pipeline"] = pipeline
    config["test_dataloader"] = {"batch_size": 1, "dataset": {"pipeline": pipeline}}
    model["data_preprocessor"] = {"type": "Det3DDataPreprocessor"}
    if "pts_voxel_layer" in model:
        layer = model.pop("pts_voxel_layer")
        layer.pop("num_point_features")
        model["data_preprocessor"] |= {"voxel": True, "voxel_layer": layer}
    if "img_backbone" in model:
        model["img_backbone"]["type"] = "mmdet." + model["img_backbone"]["type"]
    model["pts_bbox_head"]["loss_cls"]["type"] = "mmdet.FocalLoss"
    model["train_cfg"]["pts"]["assigner"]["type"] = "HungarianAssigner3D_CMT"
    return config


def normalised_by_preprocessor(config: Config) -> Config:
    config = copy.deepcopy(config)
    step = config["data"]["test"]["pipeline"][2]["transforms"].pop(2)
    config["model"]["data_preprocessor"] = {
        "type": "Det3DDataPreprocessor",
        "mean": step["mean"],
        "std": step["std"],
        "pad_size_divisor": 32,
    }
    return config


def changed(config: Config, path: str, value: object) -> Config:
    """Return a config with one field set; numbers in the path are indices of lists."""
    config = copy.deepcopy(config)
    *names, last = [int(name) if name.isdigit() else name for name in path.split(".")]
    section: Any = config
    for name in names:
        section = section[name]
    section[last] = value
    return config


def without(config: Config, path: str) -> Config:
    marked = changed(config, path, None)
    section = marked
    *names, last = path.split(".")
    for name in names:
        section = section[name]
    del section[last]
    return marked
