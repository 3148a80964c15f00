"""A delta in a bucket, beside a base on disk or in a bucket."""

import shutil
from pathlib import Path

import numpy as np

from cache.delta.open_features import open_delta
from cache.reader import CachedFeatures
from cache.storage.location import parse_store_path
from shared.config.classes import CAMERAS, LIDAR
from tests.cache.delta.small_deltas import plan_of, write_small_delta

LETTERS = {CAMERAS[0]: "ra.s.", CAMERAS[2]: "rr.sr", LIDAR: "rs.a."}


def test_a_delta_in_a_bucket_reads_the_same(base: CachedFeatures, s3: str, tmp_path: Path) -> None:
    plan = plan_of(base, LETTERS, has_geometry=True)
    write_small_delta(tmp_path / "delta", base, plan)
    write_small_delta(parse_store_path(f"{s3}/delta"), base, plan)
    here = open_delta(tmp_path / "delta", base)
    there = open_delta(parse_store_path(f"{s3}/delta"), base)
    assert here.content.digest() == there.content.digest()
    for mine, theirs in zip(here.read(base.tokens), there.read(base.tokens), strict=True):
        for name, values in mine.maps.items():
            np.testing.assert_array_equal(theirs.maps[name], values)
        np.testing.assert_array_equal(theirs.frame.img_from_lidar, mine.frame.img_from_lidar)


def test_a_copied_delta_and_a_copied_base_belong_together(
    base: CachedFeatures, tmp_path: Path
) -> None:
    write_small_delta(tmp_path / "delta", base, plan_of(base, LETTERS))
    copies = [
        shutil.copytree(tmp_path / name, tmp_path / "elsewhere" / name)
        for name in ("delta", "base.zarr")
    ]
    delta = open_delta(copies[0], CachedFeatures(copies[1]))
    assert delta.content.digest() == open_delta(tmp_path / "delta", base).content.digest()
