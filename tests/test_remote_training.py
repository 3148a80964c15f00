"""Extraction, training and checks with a store on S3-compatible storage end as with a directory."""

import json
from pathlib import Path

import pytest
import torch

from cache.__main__ import main as feature_cache
from cache.coordination.store import open_store
from cache.inspection.content_digest import content_digest
from cache.storage.location import parse_store_path
from stage1_extract.__main__ import main as extract_features
from stage2_train.__main__ import main as train_stage2
from stage2_train.run.run_folder import RunFolder

RECIPE = """
from stage2_train.recipes.recipe import Recipe

def short():
    return Recipe(name="short", steps=2, batch_size=2, learning_rate=1e-3)
"""


def weights(run: Path) -> dict[str, torch.Tensor]:
    saved = RunFolder(run).load()
    assert saved is not None
    state: dict[str, torch.Tensor] = saved["state_dict"]
    return state


def test_features_go_to_the_storage_and_a_model_is_trained_from_there(
    s3: str,
    synthetic_root: Path,
    tiny_store: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url, recipe = f"{s3}/mini/train.zarr", tmp_path / "short.py"
    recipe.write_text(RECIPE)
    where = ["--nuscenes", str(synthetic_root), "--version", "v1.0-mini", "--split", "mini_train"]

    assert extract_features(["tiny", *where, "--store", url]) == 0
    assert extract_features(["tiny", *where, "--store", url]) == 0  # nothing is left to do
    for store, workers in ((url, "1"), (str(tiny_store), "0")):
        out = str(tmp_path / f"run{workers}")
        options = ["--recipe", f"{recipe}:short", "--workers", workers]
        assert train_stage2([store, "--out", out, *options]) == 0

    there = open_store(parse_store_path(url))
    assert content_digest(there, recompute=True) == content_digest(open_store(tiny_store))
    assert f"--store {url}" in there.metadata.provenance.command
    remote, local = weights(tmp_path / "run1"), weights(tmp_path / "run0")
    assert all(torch.equal(remote[name], local[name]) for name in local)
    capsys.readouterr()
    assert feature_cache(["verify", url]) == 0
    assert "all as written" in capsys.readouterr().out
    assert feature_cache(["show", url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == {"complete": 3, "total": 3}
