"""The detectors this project knows by name, each a function that returns a frozen `Preset`.

A user's own preset is a Python file with one such function; name it as `path/to/file.py:function`.
"""

from collections.abc import Callable

from shared.config.head_config import HeadConfig
from shared.config.named_config import named_config
from shared.config.preset import CameraBranch, LidarBranch, PointGrid, Preset

RANGE_M = (-54.0, -54.0, -5.0, 54.0, 54.0, 3.0)

# 1,024 voxels for a range that holds 1,080: see `PointGrid`.
GRID_0100 = PointGrid(point_range_m=RANGE_M, voxel_m=(0.1, 0.1, 0.2), sparse_shape=(41, 1024, 1024))
GRID_0075 = PointGrid(
    point_range_m=RANGE_M, voxel_m=(0.075, 0.075, 0.2), sparse_shape=(41, 1440, 1440)
)
LIDAR = LidarBranch(
    encoder_channels=((16, 16, 32), (32, 32, 64), (64, 64, 128), (128, 128)),
    encoder_out_channels=128,
    second_channels=(128, 256),
    second_layers=(5, 5),
)
VOV_1600X640 = CameraBranch(
    backbone="vovnet99",
    base_channels=64,
    height_px=640,
    width_px=1600,
    resize_lim=(0.94, 1.25),
)


def r50_800x320() -> Preset:
    """CMT with ResNet-50 at 800 x 320 and 0.1 m voxels: val mAP 67.9, NDS 70.8 (published).

    24.7 MB of features per sample, 0.70 TB for the 28,130 training samples, before compression.

    Source: CMT, projects/configs/fusion/cmt_voxel0100_r50_800x320_cbgs.py; scores from its README.
    """
    return Preset(
        name="r50_800x320",
        grid=GRID_0100,
        camera=CameraBranch(
            backbone="resnet50",
            base_channels=64,
            height_px=320,
            width_px=800,
            resize_lim=(0.47, 0.625),
        ),
        lidar=LIDAR,
        head=HeadConfig(),
    )


def vov_1600x640() -> Preset:
    """CMT with VoVNet-99 at 1600 x 640 and 0.075 m voxels: val mAP 70.3, NDS 72.9 (published).

    61.6 MB of features per sample, 1.73 TB for the 28,130 training samples, before compression.
    On the test set mAP 72.0, NDS 74.1 (published).

    Source: CMT, projects/configs/fusion/cmt_voxel0075_vov_1600x640_cbgs.py; scores from its README.
    """
    return Preset(
        name="vov_1600x640", grid=GRID_0075, camera=VOV_1600X640, lidar=LIDAR, head=HeadConfig()
    )


def lidar_voxel0075() -> Preset:
    """CMT-L, only LiDAR, 0.075 m voxels: val mAP 62.1, NDS 68.6 (published).

    12.4 MB of features per sample, 0.35 TB for the 28,130 training samples, before compression.
    Its task heads look at three neighbouring queries (`task_kernel`), unlike those of the others.

    Source: CMT, projects/configs/lidar/cmt_lidar_voxel0075_cbgs.py; scores from its README.
    """
    return Preset(
        name="lidar_voxel0075",
        grid=GRID_0075,
        camera=None,
        lidar=LIDAR,
        head=HeadConfig(task_kernel=3),
    )


def camera_vov_1600x640() -> Preset:
    """CMT-C, only the six cameras, VoVNet-99 at 1600 x 640: val mAP 40.6, NDS 46.0 (published).

    49.2 MB of features per sample, 1.38 TB for the 28,130 training samples, before compression.
    Of the grid, only the point range matters.

    Source: CMT, projects/configs/camera/cmt_camera_vov_1600x640_cbgs.py; scores from its README.
    """
    return Preset(
        name="camera_vov_1600x640",
        grid=GRID_0075,
        camera=VOV_1600X640,
        lidar=None,
        head=HeadConfig(),
    )


def tiny() -> Preset:
    """The same modules, small: for the demo and the tests, not for results.

    It does not see boxes beyond 28.8 m in x or y. 0.5 MB of features per sample.

    Source: ours; every number is chosen so that extraction and training take minutes on two cores.
    """
    side_m = 28.8
    return Preset(
        name="tiny",
        grid=PointGrid(
            point_range_m=(-side_m, -side_m, -5.0, side_m, side_m, 3.0),
            voxel_m=(0.2, 0.2, 0.2),
            sparse_shape=(41, 288, 288),
        ),
        camera=CameraBranch(
            backbone="resnet50",
            base_channels=8,
            height_px=64,
            width_px=160,
            resize_lim=(0.094, 0.125),
        ),
        lidar=LidarBranch(
            encoder_channels=((16, 16, 16), (16, 16, 32), (32, 32, 64), (64, 64)),
            encoder_out_channels=64,
            second_channels=(128, 64),
            second_layers=(1, 1),
        ),
        head=HeadConfig(
            queries=100,
            width=64,
            heads=4,
            layers=2,
            ffn_width=128,
            dropout=0.0,
            bev_neck_channels=(32, 32),
            depths=16,
            task_width=32,
            max_boxes=100,
        ),
    )


PRESETS: dict[str, Callable[[], Preset]] = {
    make.__name__: make
    for make in (r50_800x320, vov_1600x640, lidar_voxel0075, camera_vov_1600x640, tiny)
}


def load_preset(name: str) -> Preset:
    """Return the preset called `name`, or what `path/to/file.py:function` returns.

    Raises:
        ConfigError: if there is no such preset.
    """
    return named_config(Preset, name, PRESETS)
