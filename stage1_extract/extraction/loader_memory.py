"""How large a raw sample is when a loader process hands it over: `shared.process.shared_memory`."""

from shared.config.classes import CAMERAS
from shared.config.preset import Preset
from stage1_extract.preprocessing.sweeps import COLUMNS

NUMBER_BYTES = 4  # of a float32 or int32
COLOURS = 3
COORDINATES_AND_COUNT = 4  # of a voxel: z, y, x; points


def most_raw_bytes(preset: Preset) -> int:
    """Return the bytes of a `RawFrame`'s tensors, with as many voxels as the preset allows."""
    numbers = 0
    if preset.camera is not None:
        numbers += len(CAMERAS) * COLOURS * preset.camera.height_px * preset.camera.width_px
    if preset.lidar is not None:
        of_a_voxel = preset.lidar.max_points_per_voxel * COLUMNS + COORDINATES_AND_COUNT
        numbers += preset.lidar.max_voxels * of_a_voxel
    return numbers * NUMBER_BYTES
