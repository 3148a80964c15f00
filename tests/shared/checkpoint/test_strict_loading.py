"""Checkpoints are read without running code, loaded strictly, and named for what they are."""

import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shared.checkpoint.checkpoint_table import FROZEN_PARTS, PARTS, part_of
from shared.checkpoint.sparse_layout import FIRST_LAYER, in_our_layout
from shared.checkpoint.strict_loading import (
    load_parts,
    other_backbones,
    part_digests,
    read_checkpoint,
    read_state,
)
from shared.digests import state_digest
from shared.errors import CheckpointError

SQUARE = "pts_middle_encoder.encoder_layers.encoder_layer1.0.conv1.weight"


@dataclass
class Malicious:
    """An object whose unpickling calls os.system."""

    command: str

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self.command,)


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def numbered(*shape: int) -> Tensor:
    return torch.arange(float(np.prod(shape))).reshape(shape)


def detector() -> nn.Module:
    """A module with the parts of a detector, each a small layer."""
    module = nn.Module()
    for i, part in enumerate(PARTS):
        module.add_module(part, nn.Linear(2, i + 1))
    return module


def test_a_keys_part_comes_before_its_first_dot() -> None:
    assert part_of("pts_bbox_head.task_heads.0.center.0.weight") == "pts_bbox_head"


def test_an_official_file_is_read_with_its_module_versions(tmp_path: Path) -> None:
    """The versions are an attribute of the OrderedDict; `meta` may hold NumPy numbers."""
    state = OrderedDict(a=torch.ones(2))
    state._metadata = OrderedDict({"": {"version": 1}, "m": {"version": 2}})  # type: ignore[attr-defined]
    meta = {"seed": np.int64(3), "mAP": np.float32(0.7), "epoch": 20, "CLASSES": ("car",)}
    content = {"meta": meta, "state_dict": state, "optimizer": {"state": {}, "param_groups": []}}

    read = read_state(saved(tmp_path / "cmt.pth", content))

    assert torch.equal(read["a"], state["a"])
    assert read._metadata == state._metadata  # type: ignore[attr-defined]


def test_a_file_in_torchs_old_format_is_read(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    content = {"state_dict": OrderedDict(a=numbered(3))}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    assert torch.equal(read_state(path)["a"], numbered(3))


def test_code_in_a_pickle_is_named_and_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    content = {"state_dict": {"a": torch.ones(1)}, "meta": Malicious(f"touch {trace}")}

    with pytest.raises(CheckpointError, match=r"needs posix\.system.*not loaded.*state_dict\(\)"):
        read_state(saved(tmp_path / "evil.pth", content))

    assert not trace.exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_named_as_such(tmp_path: Path, share: float) -> None:
    path = saved(tmp_path / "cmt.pth", {"state_dict": {"a": torch.zeros(1000)}})
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CheckpointError, match=r"cmt\.pth .*truncated"):
        read_state(path)


def test_a_missing_file_and_a_file_without_weights_are_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        read_state(tmp_path / "no.pth")
    with pytest.raises(CheckpointError, match=r"no `state_dict`.*it has epoch"):
        read_state(saved(tmp_path / "empty.pth", {"epoch": 3}))


@pytest.mark.parametrize(
    "keys",
    [
        ("conv1.weight", "layer1.0.conv1.weight", "fc.bias"),  # torchvision's ResNet
        ("backbone.conv1.weight",),  # mmdet's detectors
        ("img_backbone.stem.stem_1/conv.weight", "img_neck.lateral_convs.0.conv.weight"),
        ("stem.stem_1/conv.weight", "stage5.OSA5_1.ese.fc.bias"),  # VoVNet
    ],
)
@pytest.mark.parametrize("bare", [True, False])
def test_a_file_of_only_an_image_backbone_is_named_as_such(
    tmp_path: Path, keys: tuple[str, ...], bare: bool
) -> None:
    state = {key: torch.ones(1) for key in keys}
    path = saved(tmp_path / "nuim.pth", state if bare else {"state_dict": state})
    with pytest.raises(CheckpointError, match=r"has no pts_neck.*holds only an image backbone"):
        load_parts(detector(), read_state(path), ["pts_neck"], path=path)


def test_a_detector_of_one_sensor_and_a_foreign_one_are_told_apart() -> None:
    lidar = {"pts_neck.weight": torch.ones(1), "pts_bbox_head.weight": torch.ones(1)}
    with pytest.raises(CheckpointError, match=r"no img_neck.*preset of that sensor"):
        load_parts(detector(), lidar, ["pts_neck", "img_neck"], path=Path("x"))
    foreign = {"encoders.camera.weight": torch.ones(1)}
    with pytest.raises(CheckpointError, match=r"holds encoders\. It is not a CMT"):
        load_parts(detector(), foreign, ["pts_neck"], path=Path("x"))


def test_every_missing_unexpected_and_misshapen_key_is_listed_and_nothing_is_loaded() -> None:
    module, state = detector(), detector().state_dict()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    del state["pts_neck.bias"]
    state["pts_neck.extra"] = torch.ones(1)
    state["pts_backbone.weight"] = torch.ones(5, 2)

    with pytest.raises(CheckpointError) as caught:
        load_parts(module, state, ["pts_neck", "pts_backbone"], path=Path("cmt.pth"))

    message = str(caught.value)
    assert "1 missing (pts_neck.bias)" in message
    assert "1 unexpected (pts_neck.extra)" in message
    assert "1 of a different shape (pts_backbone.weight (5, 2) instead of (2, 2))" in message
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())


def test_only_the_named_parts_are_loaded() -> None:
    module, state = detector(), detector().state_dict()
    before = module.pts_backbone.weight.clone()
    load_parts(module, state, ["pts_neck"], path=Path("x"))
    assert torch.equal(module.pts_neck.weight, state["pts_neck.weight"])
    assert torch.equal(module.pts_backbone.weight, before)


@pytest.mark.parametrize(
    "stored",
    [
        (0, 1, 2, 3, 4),  # out z y x in: spconv 2
        (1, 2, 3, 4, 0),  # z y x in out: spconv 1
        (1, 2, 3, 0, 4),  # z y x out in
    ],
)
def test_a_known_order_of_sparse_weights_is_recognised(stored: tuple[int, ...]) -> None:
    ours = {FIRST_LAYER: numbered(16, 3, 3, 3, 5), SQUARE: numbered(16, 3, 3, 3, 16)}
    dense = {"pts_backbone.blocks.0.0.weight": numbered(2, 3, 3, 3)}
    file = {name: value.permute(stored) for name, value in ours.items()} | dense

    read = in_our_layout(file, Path("cmt.pth"))

    assert all(torch.equal(read[name], value) for name, value in (ours | dense).items())


@pytest.mark.parametrize(
    "swapped",
    [(4, 1, 2, 3, 0), (1, 4, 2, 3, 0), (0, 4, 1, 2, 3)],  # in z y x out, ...
)
def test_an_unknown_order_of_sparse_weights_is_refused(swapped: tuple[int, ...]) -> None:
    file = {FIRST_LAYER: numbered(16, 3, 3, 3, 5).permute(swapped)}
    with pytest.raises(CheckpointError, match=r"conv_input\.0\.weight has the shape .*nothing was"):
        in_our_layout(file, Path("cmt.pth"))


def test_digests_do_not_depend_on_the_stored_order_but_on_every_bit() -> None:
    ours = {FIRST_LAYER: numbered(16, 3, 3, 3, 5), "img_backbone.a": torch.ones(2)}
    old = ours | {FIRST_LAYER: ours[FIRST_LAYER].permute(1, 2, 3, 4, 0)}
    wanted = part_digests(ours, FROZEN_PARTS, Path("x"))
    assert set(wanted) == {"pts_middle_encoder", "img_backbone"}
    assert part_digests(old, FROZEN_PARTS, Path("x")) == wanted

    moved = ours | {"img_backbone.a": torch.tensor([1.0, 1 + 2.0**-23])}
    assert other_backbones(moved, wanted, Path("x")) == ["img_backbone"]
    assert other_backbones({"pts_neck.a": torch.ones(1)}, wanted, Path("x")) == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_part_is_digested_as_it_is_once_loaded_whatever_precision_it_was_saved_in(
    dtype: torch.dtype,
) -> None:
    """Loading copies into float32; integers, such as a counter of batches, stay integers."""
    values = torch.tensor([0.5, -1.25, 3.0])  # exact in every format
    counter = {"img_backbone.bn1.num_batches_tracked": torch.tensor(7)}
    ours = {"img_backbone.a": values} | counter
    file = {"img_backbone.a": values.to(dtype)} | counter
    wanted = part_digests(ours, ["img_backbone"], Path("x"))
    bare = {name.removeprefix("img_backbone."): tensor for name, tensor in ours.items()}
    assert wanted == {"img_backbone": state_digest(bare)}
    assert part_digests(file, ["img_backbone"], Path("x")) == wanted
    assert other_backbones(file, wanted, Path("x")) == []


def test_a_checkpoint_that_is_not_there_is_answered_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "cmt_r50.pth").touch()
    with pytest.raises(CheckpointError, match=r"cmt_r5\.pth does not exist; did you mean cmt_r50"):
        read_checkpoint(tmp_path / "cmt_r5.pth")
    with pytest.raises(CheckpointError, match=r"x does not exist; check the path"):
        read_checkpoint(tmp_path / "x")
    with pytest.raises(CheckpointError, match="is a folder; name a file in it"):
        read_checkpoint(tmp_path)
