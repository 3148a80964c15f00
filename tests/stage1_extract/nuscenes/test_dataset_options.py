"""Which samples the command line names, and what contradicts itself."""

import argparse
from pathlib import Path

import pytest

from shared.errors import ConfigError
from stage1_extract.nuscenes.dataset_options import (
    DatasetChoice,
    add_dataset_options,
    chosen_dataset,
)

INFOS = "nuscenes_infos_val.pkl"


def chosen(*words: str, **recorded: str) -> DatasetChoice:
    parser = argparse.ArgumentParser()
    add_dataset_options(parser)
    where = ["--nuscenes", "/data", "--version", "v1.0-mini"]
    return chosen_dataset(parser.parse_args([*where, *words]), recorded)


def test_a_split_beside_an_info_file_is_refused_though_it_is_the_default() -> None:
    for split in ("val", "train"):
        with pytest.raises(ConfigError, match=rf"--split {split} .* --infos {INFOS} lists its own"):
            chosen("--infos", INFOS, "--split", split)


def test_an_info_file_alone_or_a_split_alone_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{chosen_dataset.__module__}.infos_version", lambda _: None)
    assert chosen("--infos", INFOS, split="val").infos == Path(INFOS)
    assert chosen("--split", "mini_val", infos=INFOS).split == "mini_val"
    with pytest.raises(ConfigError, match="made from the info file"):
        chosen(infos=INFOS)
