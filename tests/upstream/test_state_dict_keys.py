"""Names and shapes of the trainable part are exactly those of the official checkpoints."""

from shared.config import HeadConfig
from shared.model.bev_neck import BevNeck
from shared.model.camera_neck import CameraNeck
from shared.model.detector import build_detector, build_head
from shared.presets import r50_800x320

TRAINABLE = ("img_neck.", "pts_neck.", "pts_bbox_head.")


def test_keys_and_shapes_of_the_full_model(keys_golden) -> None:
    document = keys_golden.document
    official = {
        name: tuple(shape) for name, shape in document["keys"].items() if name.startswith(TRAINABLE)
    }
    camera_channels = [
        official[f"img_neck.lateral_convs.{level}.conv.weight"][1] for level in range(2)
    ]
    parts = {
        "img_neck": CameraNeck(camera_channels, HeadConfig().width),
        "pts_neck": BevNeck((128, 256), (256, 256), strides=(1, 2)),
        "pts_bbox_head": build_head(
            HeadConfig(),
            bev_channels=512,
            point_range_m=(-54.0, -54.0, -5.0, 54.0, 54.0, 3.0),
            height_px=640,
            width_px=1600,
        ),
    }
    ours = {
        f"{part}.{name}": tuple(value.shape)
        for part, module in parts.items()
        for name, value in module.state_dict().items()
    }
    assert ours == official


def test_the_r50_preset_builds_the_r50_model(keys_golden) -> None:
    official = keys_golden.document["keys"]
    if official["img_neck.lateral_convs.0.conv.weight"][1] != 1024:
        return  # the VoVNet model
    ours = build_detector(r50_800x320()).state_dict()
    assert {name: list(value.shape) for name, value in ours.items()} == {
        name: shape for name, shape in official.items() if name.startswith(TRAINABLE)
    }
