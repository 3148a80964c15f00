"""A subset of a store: drawn in whole samples or scenes, or listed, and never empty."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shared.errors import ConfigError
from stage2_train.data.subset import Share, subset_record, subset_tokens

SCENES = ("n008-log", "n015-log", "n015-log", "n003-log", "n008-log", "n008-log", "n003-log")
TOKENS = ("f00d", "beef", "cafe", "babe", "fade", "deaf", "dead")


@dataclass
class Samples:
    """The part of a store that chooses samples."""

    tokens: tuple[str, ...] = TOKENS
    scenes: tuple[str, ...] = SCENES
    path: str = "train.zarr"


def chosen(subset: Any, store: Any = None) -> tuple[str, ...]:
    return subset_tokens(store or Samples(), subset)


def test_without_a_subset_all_samples_are_taken() -> None:
    assert chosen(None) == TOKENS
    assert subset_record(None, TOKENS) is None


def test_a_share_is_rounded_and_keeps_the_order_of_the_store() -> None:
    tokens = chosen(Share(unit="samples", share=0.5))
    assert len(tokens) == 4  # 3.5, rounded to the even number
    assert tokens == tuple(token for token in TOKENS if token in tokens)


def test_the_whole_share_is_all_samples() -> None:
    assert chosen(Share(unit="samples", share=1.0)) == TOKENS
    assert chosen(Share(unit="scenes", share=1.0)) == TOKENS


def test_a_larger_share_contains_a_smaller_one_and_another_seed_draws_others() -> None:
    small, large = (set(chosen(Share(unit="samples", share=share))) for share in (0.3, 0.6))
    assert small < large
    draws = {chosen(Share(unit="samples", share=0.3, seed=seed)) for seed in range(20)}
    assert len(draws) > 5


def test_a_share_is_the_same_whatever_the_order_of_the_store() -> None:
    turned = Samples(tokens=TOKENS[::-1], scenes=SCENES[::-1])
    share = Share(unit="samples", share=0.4)
    assert set(chosen(share)) == set(chosen(share, turned))


def test_scenes_are_drawn_whole() -> None:
    for seed in range(5):
        tokens = chosen(Share(unit="scenes", share=0.3, seed=seed))
        (scene,) = {SCENES[TOKENS.index(token)] for token in tokens}
        assert len(tokens) == SCENES.count(scene)


@pytest.mark.parametrize("text", ["cafe\nbeef\n", "\n  n015-log  \r\n\n", "beef\nn015-log"])
def test_a_file_lists_tokens_or_scenes(tmp_path: Path, text: str) -> None:
    file = tmp_path / "list.txt"
    file.write_text(text)
    assert chosen(file) == ("beef", "cafe")


def test_an_empty_subset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"0\.05 of the 7 samples of train\.zarr is none.* 0\.14"):
        chosen(Share(unit="samples", share=0.05))
    (tmp_path / "list.txt").write_text(" \n\n")
    with pytest.raises(ConfigError, match=r"list\.txt is empty; expected a sample token"):
        chosen(tmp_path / "list.txt")


def test_unknown_names_are_listed_with_the_nearest(tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_text("cafe\nbeeef\nscene-0061\nn051-log\nzz\n")
    with pytest.raises(
        ConfigError,
        match=r"list\.txt names what train\.zarr does not hold: beeef \(near: beef\), "
        r"n051-log \(near: n0.*-log\), scene-0061 and 1 more\..* n008-log, for example",
    ):
        chosen(file)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"list\.txt: expected a text file"):
        chosen(tmp_path / "list.txt")


def test_the_record_says_how_and_which_but_not_where_a_file_lies() -> None:
    share = Share(unit="scenes", share=0.25, seed=3)
    record, listed = subset_record(share, TOKENS[:2]), subset_record(Path("a.txt"), TOKENS[:2])
    assert record is not None
    assert listed is not None
    assert record["chosen"] == "0.25 of the scenes, seed 3"
    assert record["samples"] == 2
    assert listed["digest"] == record["digest"]
    assert "a.txt" not in str(listed)
