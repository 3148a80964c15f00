"""How wide each stage of an extraction is: processes that load, samples per forward, threads."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cache.format.layout import SHARD_BYTES
from shared.config.classes import CAMERAS
from shared.config.preset import Preset
from stage1_extract.preprocessing.sweeps import COLUMNS

if TYPE_CHECKING:
    import torch  # not imported for the options of a command

AHEAD = 2  # samples in flight per loader process
NUMBER_BYTES = 4  # of a float32 or int32
COLOURS = 3
COORDINATES = 3  # of a voxel: z, y, x
MOST_WRITERS = 16  # threads; their rows are what memory holds
# Writer processes for each loader process. Writing takes twice the processor time of loading, but
# all of it: with as many as cores, more shards would be in memory and none finished sooner.
WRITERS_PER_LOADER = 0.75
# Samples that a process must have to load before starting it pays: it imports for seconds, and
# loads a sample in 60 ms.
WORTH_A_PROCESS = 64
# An H100 computes a sample of r50_800x320 in 21.8, 5.7, 4.6 ms at 1, 4, 8: up to here the thread
# that queues work is the limit, and needs as long for a batch of any size.
LARGEST_BATCH = 8
# Memory of a forward, an upper estimate: a dozen maps of 256 float16 channels at stride 4 for every
# pixel of the images, and the sparse encoder with its indices.
BYTES_PER_PIXEL = 512
LIDAR_BYTES = 2**29


def loader_processes(device: "torch.device", rows: int, cores: int) -> int:
    """Return how many processes load: on a GPU one per core, on a CPU none.

    On a CPU the backbones take dozens of times as long as loading, for which a thread is enough.

    Args:
        device: of the backbones.
        rows: left to extract for this process.
        cores: that this process may use.
    """
    return min(cores, rows // WORTH_A_PROCESS) if device.type == "cuda" else 0


def default_batch_size(preset: Preset, device: "torch.device", processes: int = 1) -> int:
    """Return the batch size of a new store: on a GPU as many as half of its free memory allows.

    And no more than the rows of a shard of the default size, which holds whole batches.

    Args:
        preset: of the backbones.
        device: of the backbones.
        processes: that share the device. Each counts on its part of the whole memory: what is free
            depends on who started first, and all of them must choose the same.
    """
    if device.type == "cpu":
        return 1
    import torch

    free_bytes, all_bytes = torch.cuda.mem_get_info(device)
    own_bytes = free_bytes if processes == 1 else all_bytes // processes
    rows = SHARD_BYTES // map_bytes(preset)
    return max(1, min(LARGEST_BATCH, rows, own_bytes // 2 // sample_bytes(preset)))


def map_bytes(preset: Preset) -> int:
    """Return the bytes of a sample's maps in float16."""
    return sum(math.prod(spec.shape) for spec in preset.maps) * 2


def sample_bytes(preset: Preset) -> int:
    """Return an upper estimate of the device memory that a sample takes in the backbones."""
    camera = preset.camera
    pixels = 0 if camera is None else len(CAMERAS) * camera.height_px * camera.width_px
    return pixels * BYTES_PER_PIXEL + (0 if preset.lidar is None else LIDAR_BYTES)


@dataclass(frozen=True, kw_only=True, slots=True)
class Widths:
    """How wide loading and writing are.

    Args:
        loaders: processes that load; 0 loads in a thread.
        writers: processes that encode and write, or threads if there are no loaders.
        threads: of `ShardWriters`: those that write, or one for every shard in memory.
        rows: computed rows in memory, at most.
    """

    loaders: int
    writers: int
    threads: int
    rows: int


def choose_widths(
    loaders: int, cores: int, *, slots: int, batch_rows: int, writers: int | None = None
) -> Widths:
    """Return how wide loading and writing are.

    Where threads write, memory holds a shard that is computed, one that waits for its last rows,
    and a row per thread or a batch. Where processes write, it holds a shard for each of them, one
    that is computed and one that is copied to its places.

    Args:
        loaders: processes that load, see `loader_processes`.
        cores: that this process may use.
        slots: rows of a shard.
        batch_rows: that the device hands over at once, at most.
        writers: threads or processes that write; by default a thread per core, at most
            `MOST_WRITERS`, or `WRITERS_PER_LOADER` processes.
    """
    if loaders:
        writers = writers or math.ceil(WRITERS_PER_LOADER * loaders)
        shards = writers + 2
        return Widths(loaders=loaders, writers=writers, threads=shards, rows=shards * slots)
    writers = writers or min(cores, MOST_WRITERS)
    rows = 2 * slots + max(writers, batch_rows)
    return Widths(loaders=0, writers=writers, threads=writers, rows=rows)


def most_raw_bytes(preset: Preset) -> int:
    """Return the bytes of a `RawFrame`'s tensors, with as many voxels as the preset allows."""
    needed = 0
    if preset.camera is not None:
        needed += len(CAMERAS) * COLOURS * preset.camera.height_px * preset.camera.width_px
    if preset.lidar is not None:
        needed += preset.lidar.max_voxels * (COLUMNS + COORDINATES) * NUMBER_BYTES
    return needed


def samples_in_flight(batch_size: int, workers: int) -> int:
    """Return how many samples loader processes have loaded or begun at a time, at most.

    Args:
        batch_size: samples per forward. A batch is joined while others are loaded.
        workers: processes.
    """
    return AHEAD * workers + batch_size
