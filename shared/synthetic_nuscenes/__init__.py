"""A small, valid nuScenes of which every number is known: a data set that needs no download.

    python -m shared.synthetic_nuscenes OUT

Others use `SyntheticConfig` and `write_synthetic_nuscenes`. Both sensors cast rays at the same
boxes, so the points and the images agree with the annotations and with each other.

May import world/, sensors/ and tables/, and of `shared` only `errors` and the vocabulary in
`config.classes`.
"""

from shared.synthetic_nuscenes.world.synthetic_config import SyntheticConfig
from shared.synthetic_nuscenes.write import write_synthetic_nuscenes

__all__ = ["SyntheticConfig", "write_synthetic_nuscenes"]
