"""Names and shapes of the complete model are exactly those of the official checkpoints."""

import pytest

from shared.config.preset import Preset
from shared.config.preset_catalogue import PRESETS
from shared.model.detector import build_detector
from stage1_extract.backbones.frozen import FrozenBackbones

# Official config to our preset; a key list names the config it was made from.
PRESET_OF_CONFIG = {
    "fusion/cmt_voxel0100_r50_800x320_cbgs": "r50_800x320",
    "fusion/cmt_voxel0075_vov_1600x640_cbgs": "vov_1600x640",
    "lidar/cmt_lidar_voxel0075_cbgs": "lidar_voxel0075",
    "camera/cmt_camera_vov_1600x640_cbgs": "camera_vov_1600x640",
}

Shapes = dict[str, tuple[int, ...]]


def shapes_of(preset: Preset) -> Shapes:
    """Names and shapes of everything stage 1 runs and stage 2 trains."""
    both = (FrozenBackbones(preset), build_detector(preset))
    return {name: tuple(t.shape) for part in both for name, t in part.state_dict().items()}


@pytest.fixture(scope="module")
def shapes() -> dict[str, Shapes]:
    return {name: shapes_of(PRESETS[name]()) for name in PRESET_OF_CONFIG.values()}


def test_keys_and_shapes_of_the_full_model(keys_golden, shapes: dict[str, Shapes]) -> None:
    document = keys_golden.document
    official = {name: tuple(shape) for name, shape in document["keys"].items()}
    assert shapes[PRESET_OF_CONFIG[document["config"]]] == official


def test_the_frozen_and_the_trainable_part_share_no_key() -> None:
    for name in PRESET_OF_CONFIG.values():
        preset = PRESETS[name]()
        frozen, trained = FrozenBackbones(preset).state_dict(), build_detector(preset).state_dict()
        assert not frozen.keys() & trained.keys()


def test_the_lidar_model_is_the_fusion_model_without_cameras(shapes: dict[str, Shapes]) -> None:
    """Its task heads look at three queries side by side, so their kernels are three wide."""
    fusion, lidar = shapes["vov_1600x640"], shapes["lidar_voxel0075"]
    assert lidar.keys() == {
        name for name in fusion if not name.startswith(("img_", "pts_bbox_head.rv_embedding"))
    }
    wider = {name for name in lidar if lidar[name] != fusion[name]}
    assert {name.split(".")[1] for name in wider} == {"task_heads"}
    assert all(lidar[name] == (*fusion[name][:-1], 3) for name in wider)


def test_the_camera_model_is_the_fusion_model_without_lidar(shapes: dict[str, Shapes]) -> None:
    """It keeps `bev_embedding`, which places its queries, and has no `shared_conv`."""
    fusion, camera = shapes["vov_1600x640"], shapes["camera_vov_1600x640"]
    absent = ("pts_middle_encoder", "pts_backbone", "pts_neck", "pts_bbox_head.shared_conv")
    assert camera == {name: s for name, s in fusion.items() if not name.startswith(absent)}
