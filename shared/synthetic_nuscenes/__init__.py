"""A small, valid nuScenes whose every number is known: the data set that needs no download.

    python -m shared.synthetic_nuscenes OUT

The public surface is `SyntheticConfig` and `write_synthetic_nuscenes`. Both sensors cast rays at
the same boxes, so the cloud and the images agree with the annotations and with each other.
"""

from shared.synthetic_nuscenes.world.synthetic_config import SyntheticConfig
from shared.synthetic_nuscenes.write import write_synthetic_nuscenes

__all__ = ["SyntheticConfig", "write_synthetic_nuscenes"]
