"""A file that is no checkpoint is named for what it is; safetensors are one."""

import os
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from shared.checkpoint.strict_loading import read_checkpoint, read_state
from shared.errors import CheckpointError
from shared.model.initial_detector import aqr_config_of
from stage1_extract.__main__ import main as extract_features
from tests.cases.foreign_checkpoints import FOREIGN_CHECKPOINTS, WEIGHTS, ForeignFile, torch_file


@pytest.mark.parametrize("case", FOREIGN_CHECKPOINTS.values(), ids=FOREIGN_CHECKPOINTS)
def test_a_foreign_file_is_named_for_what_it_is(tmp_path: Path, case: ForeignFile) -> None:
    path = tmp_path / "cmt.pth"
    path.write_bytes(case.content())
    with pytest.raises(CheckpointError, match=rf"checkpoint {re.escape(str(path))} ") as caught:
        read_checkpoint(path)
    assert re.search(case.message, str(caught.value))
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize("name", ["cmt.safetensors", "cmt.pth"])
def test_safetensors_are_read_whatever_their_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    save_file(WEIGHTS, path, metadata={"format": "pt"})
    state = read_state(path)
    assert state.keys() == WEIGHTS.keys()
    for key, tensor in WEIGHTS.items():
        assert torch.equal(state[key], tensor)
        assert state[key].dtype == tensor.dtype
    assert aqr_config_of(path) is None


def test_a_torch_file_is_still_read(tmp_path: Path) -> None:
    path = tmp_path / "cmt.pth.tar"
    path.write_bytes(torch_file())
    assert read_state(path).keys() == WEIGHTS.keys()


@pytest.mark.skipif(os.getuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cmt.pth"
    path.write_bytes(torch_file())
    path.chmod(0)
    with pytest.raises(CheckpointError, match=r"cmt\.pth cannot be read: Permission denied"):
        read_checkpoint(path)


@pytest.mark.parametrize("name", ["a web page", "a Git LFS pointer", "a tar archive"])
def test_the_extraction_ends_with_status_1_before_anything_is_written(
    synthetic_root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    path = tmp_path / "cmt.pth"
    path.write_bytes(FOREIGN_CHECKPOINTS[name].content())
    where = ["--nuscenes", str(synthetic_root), "--version", "v1.0-mini", "--split", "mini_train"]
    store = ["--store", str(tmp_path / "store"), "--checkpoint", str(path)]
    assert extract_features(["tiny", *where, *store]) == 1
    printed = capfd.readouterr().err
    assert re.search(FOREIGN_CHECKPOINTS[name].message, printed)
    assert "Traceback" not in printed
    assert not (tmp_path / "store").exists()
