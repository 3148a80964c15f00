"""Raw frames: which settings hold in the recorded variant and which in an augmented one."""

from dataclasses import replace
from pathlib import Path

from shared.config.augmentation import Augmentation, VariantDraws
from shared.config.preset_catalogue import tiny
from stage1_extract.nuscenes.nuscenes_tables import read_tables
from stage1_extract.preprocessing.raw_frames import RawFrames

LIMIT, TRAINING_LIMIT = 700, 500  # both are below what a synthetic frame fills


def test_an_augmented_variant_has_the_training_limit_of_voxels(synthetic_root: Path) -> None:
    records = read_tables(synthetic_root, "v1.0-mini", "mini_train")
    preset = tiny()
    assert preset.lidar is not None
    limited = replace(preset, lidar=replace(preset.lidar, max_voxels=LIMIT))
    draws = VariantDraws(augmentation=Augmentation(max_voxels=TRAINING_LIMIT))
    frames = RawFrames(records[:1], limited, draws)

    counts = [len(voxels.means) for n in (0, 1) if (voxels := frames[n, 0].voxels) is not None]

    assert counts == [LIMIT, TRAINING_LIMIT]


def test_the_training_limit_does_not_raise_the_preset_s(synthetic_root: Path) -> None:
    records = read_tables(synthetic_root, "v1.0-mini", "mini_train")
    preset = tiny()
    assert preset.lidar is not None
    limited = replace(preset, lidar=replace(preset.lidar, max_voxels=LIMIT))
    frames = RawFrames(records[:1], limited, VariantDraws(augmentation=Augmentation()))

    voxels = frames[1, 0].voxels

    assert voxels is not None
    assert len(voxels.means) == LIMIT
