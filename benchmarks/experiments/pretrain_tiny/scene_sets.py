"""The synthetic scenes that are trained on and judged on, each set from a seed of its own."""

from dataclasses import replace
from pathlib import Path

from shared.synthetic_nuscenes.world.synthetic_config import VERSION, SyntheticConfig
from shared.synthetic_nuscenes.write import write_synthetic_nuscenes
from stage1_extract.nuscenes.nuscenes_tables import read_tables
from stage1_extract.nuscenes.records import SampleRecord

HELD_OUT_SEED = 0  # the set that `make demo` works with, so that nothing of it is trained on
SPLITS = ("mini_train", "mini_val")


def scene_set(data: Path, world: SyntheticConfig, seed: int) -> Path:
    """Return the root of a scene set, written if it is not there yet.

    nuscenes-devkit knows only ten names of scenes, so more scenes need more roots.

    Args:
        data: folder of all sets.
        world: size of a set.
        seed: of the set; any other than `HELD_OUT_SEED` is for training.
    """
    root = data / f"seed_{seed}"
    write_synthetic_nuscenes(root, replace(world, seed=seed))
    return root


def recorded_samples(root: Path) -> list[SampleRecord]:
    """Return all samples of a set: both splits."""
    return [record for split in SPLITS for record in read_tables(root, VERSION, split)]
