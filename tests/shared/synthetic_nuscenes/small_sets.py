"""Two small synthetic data sets, and how tests read them."""

from pathlib import Path
from typing import Any

import numpy as np

from shared.config.classes import LIDAR
from shared.synthetic_nuscenes import SyntheticConfig

SMALL = SyntheticConfig(
    scenes_train=1,
    scenes_val=1,
    samples_per_scene=3,
    sweep_rate_hz=20,
    azimuth_steps=360,
    render_stride_px=4,
)
SMALLEST = SyntheticConfig(
    scenes_train=1,
    scenes_val=0,
    samples_per_scene=1,
    azimuth_steps=64,
    render_stride_px=10,
)


def contents(root: Path) -> dict[str, bytes]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def cloud(tables: Any, sample: Any) -> np.ndarray:
    path = tables.get_sample_data_path(sample["data"][LIDAR])
    return np.fromfile(path, dtype=np.float32).reshape(-1, 5)
