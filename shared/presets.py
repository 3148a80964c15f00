"""The detectors this project knows by name, each a function that returns a frozen `Preset`.

A user's own preset is a Python file with one such function; name it as `path/to/file.py:function`.
"""

from collections.abc import Callable

from shared.config import CameraBranch, HeadConfig, LidarBranch, PointGrid, Preset
from shared.named_config import named_config

RANGE_M = (-54.0, -54.0, -5.0, 54.0, 54.0, 3.0)


def r50_800x320() -> Preset:
    """CMT with ResNet-50 at 800 x 320 and 0.1 m voxels: val mAP 67.9, NDS 70.8 (published).

    24.7 MB of features per sample, 0.70 TB for the 28,130 training samples, before compression.

    Source: CMT, projects/configs/fusion/cmt_voxel0100_r50_800x320_cbgs.py.
    """
    return Preset(
        name="r50_800x320",
        camera=CameraBranch(
            backbone="resnet50",
            base_channels=64,
            height_px=320,
            width_px=800,
            resize_lim=(0.47, 0.625),
        ),
        lidar=LidarBranch(
            grid=PointGrid(
                point_range_m=RANGE_M, voxel_m=(0.1, 0.1, 0.2), sparse_shape=(41, 1024, 1024)
            ),
            encoder_channels=((16, 16, 32), (32, 32, 64), (64, 64, 128), (128, 128)),
            encoder_out_channels=128,
            second_channels=(128, 256),
            second_layers=(5, 5),
        ),
        head=HeadConfig(),
    )


def tiny() -> Preset:
    """The same modules, small: for the demo and the tests, not for results.

    Boxes beyond 28.8 m in x or y are out of its sight. 0.5 MB of features per sample.

    Source: ours; every number is chosen so that extraction and training take minutes on two cores.
    """
    side_m = 28.8
    return Preset(
        name="tiny",
        camera=CameraBranch(
            backbone="resnet50",
            base_channels=8,
            height_px=64,
            width_px=160,
            resize_lim=(0.094, 0.125),
        ),
        lidar=LidarBranch(
            grid=PointGrid(
                point_range_m=(-side_m, -side_m, -5.0, side_m, side_m, 3.0),
                voxel_m=(0.2, 0.2, 0.2),
                sparse_shape=(41, 288, 288),
            ),
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


PRESETS: dict[str, Callable[[], Preset]] = {make.__name__: make for make in (r50_800x320, tiny)}


def load_preset(name: str) -> Preset:
    """Return the preset called `name`, or the one `path/to/file.py:function` defines.

    Raises:
        ConfigError: if there is none.
    """
    return named_config(Preset, name, PRESETS)
