"""A complete official checkpoint goes through our modules and back without losing a bit."""

from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import Tensor

from shared.checkpoint.strict_loading import part_digests, read_state
from shared.config.config_json import to_json
from shared.config.preset_catalogue import PRESETS
from shared.model.initial_detector import fresh_detector
from stage1_extract.backbones.weights import frozen_backbones
from stage2_train.run.official_export import (
    official_checkpoint,
    synthesised_metadata,
    write_checkpoint,
)
from tests.upstream.test_state_dict_keys import PRESET_OF_CONFIG


def random_state(document: dict) -> OrderedDict[str, Tensor]:
    """Random bits of every dtype under the official names."""
    generator = torch.Generator().manual_seed(0)
    integers = document["dtypes_not_float32"]
    return OrderedDict(
        (
            name,
            torch.randint(9_999, shape, generator=generator)
            if name in integers
            else torch.randn(shape, generator=generator),
        )
        for name, shape in document["keys"].items()
    )


@pytest.fixture(scope="module")
def official(keys_golden, tmp_path_factory: pytest.TempPathFactory) -> Path:
    state = random_state(keys_golden.document)
    state._metadata = synthesised_metadata(state)  # type: ignore[attr-defined]
    path = tmp_path_factory.mktemp("official") / "cmt.pth"
    torch.save({"meta": {"epoch": 20}, "state_dict": state}, path)
    return path


def test_official_to_ours_to_official_is_bit_identical(
    keys_golden, official: Path, tmp_path: Path
) -> None:
    preset = PRESETS[PRESET_OF_CONFIG[keys_golden.document["config"]]]()
    frozen, _ = frozen_backbones(preset, official)
    detector = fresh_detector(preset, seed=0, checkpoint=official)
    saved = {
        "state_dict": detector.state_dict(),
        "preset": to_json(preset),
        "aqr": None,
        "step": 0,
        "backbones": frozen.digests(),
    }
    before = read_state(official)
    ours = {**frozen.cpu().state_dict(), **detector.state_dict()}

    write_checkpoint(official_checkpoint(saved, official), tmp_path / "out.pth")

    after = read_state(tmp_path / "out.pth")
    assert list(after) == list(before) == list(keys_golden.document["keys"])
    for name, value in before.items():
        assert after[name].dtype == ours[name].dtype == value.dtype, name
        assert torch.equal(after[name], value), name
        assert torch.equal(ours[name], value), name
    assert after._metadata == before._metadata  # type: ignore[attr-defined]
    assert part_digests(after, frozen.parts, official) == frozen.digests()


def test_module_versions_are_the_official_ones(keys_golden) -> None:
    document = keys_golden.document
    metadata = synthesised_metadata({name: torch.empty(0) for name in document["keys"]})
    versions = {name: own["version"] for name, own in metadata.items() if own["version"] != 1}
    assert versions == document["non_default_metadata_versions"]
