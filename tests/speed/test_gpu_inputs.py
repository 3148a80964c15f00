"""What the GPU benchmark measures on: rows, geometry and raw input that behave like real ones."""

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.speed.gpu.attention_section import BATCH_SIZE, measure_attention
from benchmarks.speed.gpu.cases import NOT_MEASURED, Cases, read_rows
from benchmarks.speed.gpu.live_section import random_input
from benchmarks.speed.gpu.section_request import SectionRequest
from benchmarks.speed.gpu.synthetic_store import (
    BOX_COUNTS,
    camera_ring,
    write_synthetic_store,
)
from cache.reader import CachedFeatures
from shared.config.preset_catalogue import load_preset


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> CachedFeatures:
    path = tmp_path_factory.mktemp("benchmark") / "tiny.zarr"
    return write_synthetic_store(path, load_preset("tiny"), BATCH_SIZE)


def test_the_synthetic_store_looks_like_a_real_one(store: CachedFeatures) -> None:
    store.require_complete()
    first, *_, last = store.read(list(store.tokens))
    low, high = store.preset.grid.point_range_m[:2], store.preset.grid.point_range_m[3:5]
    annotations = last.frame.annotations
    boxes = annotations.boxes_lidar
    assert ((boxes[:, :2] >= low) & (boxes[:, :2] <= high)).all()
    assert (boxes[:, 3:6] > 0.1).all()
    assert set(annotations.labels) == set(range(10))
    for values in first.maps.values():
        numbers = np.asarray(values)
        assert np.isfinite(numbers).all()
        assert 0.05 < (numbers == 0).mean() < 0.9
    assert set(store.null.maps) == set(first.maps)


def test_a_point_ahead_of_a_camera_is_in_the_middle_of_its_image_and_in_no_other() -> None:
    ring = camera_ring(320, 800)
    for camera, yaw in enumerate(2.0 * np.pi * np.arange(6) / 6):
        point = np.array([20.0 * np.cos(yaw), 20.0 * np.sin(yaw), 0.0, 1.0])
        pixels = ring @ point  # (V, 4)
        assert pixels[camera, :3] / pixels[camera, 2] == pytest.approx([400.0, 160.0, 1.0])
        columns = pixels[:, 0] / pixels[:, 2]
        sees = (pixels[:, 2] > 0.0) & (columns >= 0.0) & (columns < 800.0)
        assert sees.nonzero()[0].tolist() == [camera]


def test_attention_is_measured_on_what_a_step_gave_to_aqr(
    store: CachedFeatures, tmp_path: Path
) -> None:
    request = SectionRequest(
        section="attention",
        store=Path(str(store.path)),
        rows=tmp_path / "rows.jsonl",
        scratch=tmp_path,
        seconds=300.0,
        precision="32-true",
        is_quick=True,
    )
    measure_attention(request, Cases(request.rows, request.seconds))
    rows = read_rows(request.rows)
    assert not [row for row in rows if NOT_MEASURED in row]
    head = store.preset.head
    copies = min(head.denoising.groups, head.queries // max(BOX_COUNTS))
    inputs = [row for row in rows if row["what"] == "inputs"]
    assert {row["queries"] for row in inputs} == {head.queries + copies * max(BOX_COUNTS)}
    assert {row["samples"] for row in inputs} == {BATCH_SIZE}
    biased = {(row["profile"], row["tables"]) for row in rows if row["what"] == "with a bias"}
    assert len(biased) == 4
    assert all(row["forward_and_backward_ms"] > 0.0 for row in rows if "dtype" in row)


def test_raw_input_has_the_shapes_of_the_backbones_and_distinct_voxels_inside_the_grid() -> None:
    preset = load_preset("tiny")
    assert preset.camera is not None
    raw = random_input(preset, samples=2, voxels=300)
    assert raw["images"].shape == (2, 6, 3, preset.camera.height_px, preset.camera.width_px)
    coordinates, points, counts = (raw[name] for name in ("coordinates", "points", "counts"))
    assert coordinates.dtype == counts.dtype == torch.int32
    assert len(coordinates) == len(points) == len(counts) == len(coordinates.unique(dim=0))
    assert coordinates[:, 0].unique().tolist() == [0, 1]
    sides = torch.tensor(preset.grid.sparse_shape)
    assert ((coordinates[:, 1:] >= 0) & (coordinates[:, 1:] < sides)).all()
    filled = (points != 0.0).any(dim=-1).sum(dim=-1)
    assert torch.equal(filled.int(), counts)
