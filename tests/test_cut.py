"""A store cut after frozen necks gives the same detector, smaller, and refuses to train them."""

from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from cache.reader import CachedFeatures
from shared.checkpoint.checkpoint_table import belongs
from shared.checkpoint.strict_loading import read_state
from shared.config.cut import Cut, parse_cut
from shared.config.preset import Preset
from shared.config.preset_catalogue import r50_800x320, tiny
from shared.data.batch import collate
from shared.errors import ConfigError
from shared.model.initial_detector import fresh_detector
from stage1_extract.__main__ import main as extract_features
from stage1_extract.backbones.frozen import FrozenBackbones
from stage1_extract.backbones.seeded_weights import seed_weights
from stage1_extract.check_parity import main as check_parity
from stage2_train.__main__ import main as train_stage2
from stage2_train.evaluate import main as evaluate_stage2
from stage2_train.export_checkpoint import main as export_checkpoint

RECIPE = """
from dataclasses import replace
from stage2_train.recipes.recipes import NECKS, first_steps

def necks_frozen():
    return replace(first_steps(), name="necks_frozen", frozen=NECKS, lr_multipliers=())

def memory_frozen():
    frozen = (*NECKS, "pts_bbox_head.shared_conv")
    return replace(first_steps(), name="memory_frozen", frozen=frozen, lr_multipliers=())
"""


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete checkpoint whose BatchNorms have non-trivial statistics."""
    frozen = FrozenBackbones(tiny())
    seed_weights(frozen, 3)
    state = OrderedDict(frozen.state_dict())
    state.update(fresh_detector(tiny(), seed=3).state_dict())
    random = torch.Generator().manual_seed(0)
    for name, value in state.items():
        if name.startswith("pts_neck") and name.endswith("running_mean"):
            value.copy_(torch.randn(value.shape, generator=random))
    path = tmp_path_factory.mktemp("official") / "cmt.pth"
    torch.save({"state_dict": state}, path)
    return path


def extract(root: Path, store: Path, checkpoint: Path, cut: str) -> Path:
    where = ["--nuscenes", str(root), "--version", "v1.0-mini", "--split", "mini_val"]
    arguments = ["tiny", *where, "--store", str(store), "--checkpoint", str(checkpoint)]
    assert extract_features([*arguments, "--cut", cut]) == 0
    return store


@pytest.fixture(scope="module")
def stores(
    official: Path, synthetic_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("stores")
    return {
        cut: extract(synthetic_root, folder / f"{cut}.zarr", official, cut)
        for cut in ("backbone", "neck", "memory")
    }


@pytest.mark.parametrize("cut", ["neck", "memory"])
def test_the_detector_gives_the_same_from_a_deeper_cut(
    stores: dict[str, Path], official: Path, cut: str
) -> None:
    outputs = {}
    for name in ("backbone", cut):
        store = CachedFeatures(stores[name])
        detector = fresh_detector(store.preset, store.cut, seed=0, checkpoint=official).eval()
        with torch.no_grad():
            outputs[name] = detector(collate(store.read(store.tokens[:2]))).codes
    difference = (outputs[cut] - outputs["backbone"]).abs().max()
    # Both are rounded to float16, in different places.
    assert difference < 2e-3 * outputs["backbone"].abs().max()


@pytest.mark.parametrize(("cut", "recipe"), [("neck", "necks_frozen"), ("memory", "memory_frozen")])
def test_a_deeper_cut_goes_all_the_way_and_back(
    stores: dict[str, Path],
    official: Path,
    synthetic_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    cut: str,
    recipe: str,
) -> None:
    file, run, out = tmp_path / "mine.py", tmp_path / "run", tmp_path / "out.pth"
    file.write_text(RECIPE)
    store, checkpoint = str(stores[cut]), ["--checkpoint", str(official)]

    parity = [store, "--nuscenes", str(synthetic_root), "--samples", "2", *checkpoint]
    assert check_parity(parity) == 0, capsys.readouterr()
    train = [store, "--out", str(run), "--recipe", f"{file}:{recipe}", "--stop-after", "2"]
    assert train_stage2([*train, *checkpoint]) == 0
    assert evaluate_stage2([store, str(run), "--out", str(tmp_path / "val")]) == 0
    assert export_checkpoint([str(run), "--out", str(out)]) == 0

    before, after = read_state(official), read_state(out)
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert set(before) == set(after)
    assert changed
    assert not any(belongs(key, parse_cut(cut).frozen_parts) for key in changed)


@pytest.mark.parametrize(("cut", "part"), [("neck", "img_neck"), ("memory", "shared_conv")])
def test_training_what_precedes_the_cut_is_refused(
    stores: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    cut: str,
    part: str,
) -> None:
    recipe = "frozen_a" if cut == "neck" else "frozen_all"
    arguments = [str(stores[cut]), "--out", str(tmp_path / "run"), "--recipe", recipe]
    assert train_stage2(arguments) == 1
    message = capsys.readouterr().err
    assert part in message
    assert f"recipe {recipe} trains them" in message
    assert not (tmp_path / "run").exists()


def test_frozen_necks_stay_as_they_are_even_where_they_could_be_trained(
    stores: dict[str, Path], official: Path, tmp_path: Path
) -> None:
    """Including their BatchNorm statistics."""
    run, file = tmp_path / "run", tmp_path / "mine.py"
    file.write_text(RECIPE)
    train = [str(stores["backbone"]), "--out", str(run), "--recipe", f"{file}:necks_frozen"]
    assert train_stage2([*train, "--stop-after", "2", "--checkpoint", str(official)]) == 0

    before = read_state(official)
    after = torch.load(run / "checkpoint.pt", weights_only=True)["state_dict"]
    changed = {key for key in after if not torch.equal(before[key], after[key])}
    assert changed
    assert not any(belongs(key, ("img_neck", "pts_neck")) for key in changed)


def test_different_necks_make_a_different_identity(
    stores: dict[str, Path],
    official: Path,
    synthetic_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    state = dict(read_state(official))
    state["pts_neck.deblocks.0.1.running_mean"] = state["pts_neck.deblocks.0.1.running_mean"] + 1e-6
    changed = tmp_path / "changed.pth"
    torch.save({"state_dict": state}, changed)
    where = ["--nuscenes", str(synthetic_root), "--version", "v1.0-mini", "--split", "mini_val"]
    arguments = ["tiny", *where, "--checkpoint", str(changed)]

    deeper = [*arguments, "--store", str(stores["neck"]), "--cut", "neck"]
    assert extract_features(deeper) == 1
    assert "weights.pts_neck" in capsys.readouterr().err
    # They do not matter to a cut before the necks.
    assert extract_features([*arguments, "--store", str(stores["backbone"])]) == 0


def shapes(preset: Preset, cut: Cut) -> dict[str, tuple[int, ...]]:
    return {spec.name: spec.shape for spec in cut.maps(preset)}


def test_what_a_cut_stores_of_the_r50_preset() -> None:
    preset = r50_800x320()
    assert shapes(preset, parse_cut("neck")) == {
        "camera/neck_stride16": (6, 256, 20, 50),
        "lidar/neck_stride8": (512, 128, 128),
    }
    assert shapes(preset, parse_cut("memory")) == {
        "camera/neck_stride16": (6, 256, 20, 50),
        "lidar/memory_stride8": (256, 128, 128),
    }
    assert shapes(preset, parse_cut("camera=neck")) == {
        "camera/neck_stride16": (6, 256, 20, 50),
        "lidar/stride8": (128, 128, 128),
        "lidar/stride16": (256, 64, 64),
    }


def test_a_cut_reads_back_from_its_text() -> None:
    for text in ("backbone", "neck", "memory", "lidar=memory", "camera=neck,lidar=backbone"):
        assert parse_cut(str(parse_cut(text))) == parse_cut(text)


@pytest.mark.parametrize("text", ["head", "camera=head", "radar=neck", "", "neck,memory"])
def test_an_unknown_cut_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="unknown cut"):
        parse_cut(text)
