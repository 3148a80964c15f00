"""Class-balanced sampling draws what mmdet3d's CBGSDataset draws."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cache.reader import CachedFeatures
from shared.config.classes import CLASS_NAMES, OTHER_CLASS
from shared.errors import ConfigError
from stage1_extract.nuscenes.info_files import read_infos
from stage2_train.data.class_balance import ClassBalance, class_balance
from stage2_train.data.sampler import EpochSampler

INFOS_V2 = "infos/nuscenes_infos_train.trainval_first10.v2.pkl"
INFOS_V1 = "infos/mini_val_all81.v1.pkl"


class Upstream:
    """A data set that knows its classes and nothing else, for CBGSDataset."""

    def __init__(self, present: NDArray[np.bool_]) -> None:
        self.present = present

    def __len__(self) -> int:
        return len(self.present)

    def get_cat_ids(self, index: int) -> set[int]:
        return set(np.flatnonzero(self.present[index]).tolist())


def official_indices(dataset: Any, classes: tuple[str, ...], seed: int) -> list[int]:
    """Return the indices CBGSDataset draws, without the rest of an mmengine data set."""
    from mmdet3d.datasets import CBGSDataset

    official = CBGSDataset.__new__(CBGSDataset)
    official._metainfo = {"classes": classes}
    np.random.seed(seed)  # noqa: NPY002 - the generator that the official code draws from
    indices: list[int] = official._get_sample_indices(dataset)
    return indices


@pytest.mark.parametrize("seed", range(4))
def test_with_the_same_random_numbers_it_is_the_official_list(seed: int) -> None:
    random = np.random.default_rng(seed)
    rates = random.uniform(0.02, 0.95, len(CLASS_NAMES))
    present = random.random((500 + seed, len(CLASS_NAMES))) < rates
    present[0] = True  # every class occurs, or the official code divides by zero

    drawn = ClassBalance(present).draw(np.random.RandomState(7))

    assert drawn.tolist() == official_indices(Upstream(present), CLASS_NAMES, 7)


def test_every_class_gets_its_share_of_the_draws() -> None:
    random = np.random.default_rng(0)
    present = random.random((2000, 10)) < np.linspace(0.01, 0.9, 10)
    balanced = ClassBalance(present)
    pairs = int(present.sum())
    for samples, draws in zip(balanced.samples_of, balanced.draws, strict=True):
        assert draws in (pairs // 10, pairs // 10 - 1)  # the float may lie below a whole number
        assert present[samples].any()
    assert len(balanced) == sum(balanced.draws)


def test_a_class_that_never_occurs_is_left_out() -> None:
    present = np.array([[True, False, True], [True, False, False]])
    balanced = ClassBalance(present)
    assert balanced.draws == [1, 0, 1]
    assert set(balanced.draw(np.random.RandomState(0)).tolist()) <= {0, 1}


def test_a_data_set_without_boxes_cannot_be_balanced() -> None:
    with pytest.raises(ConfigError, match="none of 3 samples has a box of a class"):
        ClassBalance(np.zeros((3, 10), np.bool_))


def test_an_epoch_is_drawn_anew_and_holds_only_samples_with_a_class() -> None:
    present = np.zeros((60, 2), np.bool_)
    present[:40, 0] = True
    present[0, 1] = True  # so rare that its sample comes again and again
    sampler = EpochSampler(60, 41, seed=0, balance=ClassBalance(present))
    epochs = [[place.sample for place in sampler.epoch(number)] for number in range(2)]
    assert sampler.steps_per_epoch == 1
    for epoch in epochs:
        assert len(epoch) == 40  # 20 of each class, of 41 pairs
        assert epoch.count(0) >= 20
        assert max(epoch) < 40
        assert 0 < epoch[:20].count(0) < 20  # and is not drawn class by class
    assert sorted(epochs[0]) != sorted(epochs[1])


def test_classes_are_read_from_the_store_with_boxes_nobody_trains_on(tiny_store: Path) -> None:
    store = CachedFeatures(tiny_store)
    frames = [store.frame(token) for token in store.tokens]
    balanced = class_balance(store, store.tokens)
    for label, samples in enumerate(balanced.samples_of):
        expected = [
            i for i, frame in enumerate(frames) if (frame.annotations.labels == label).any()
        ]
        assert samples.tolist() == expected
    assert any(len(samples) for samples in balanced.samples_of)


def test_boxes_of_no_class_do_not_count(tiny_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = CachedFeatures(tiny_store)
    labels = {token: [OTHER_CLASS, number] for number, token in enumerate(store.tokens)}
    monkeypatch.setattr(store, "labels", lambda token: np.array(labels[token]))

    balanced = class_balance(store, store.tokens)
    assert [samples.tolist() for samples in balanced.samples_of] == [[0], [1], [2], *[[]] * 7]


def official_dataset(infos: Path, classes: tuple[str, ...]) -> Any:
    from mmdet3d.datasets import NuScenesDataset

    prefix = {"pts": "", "img": "", "sweeps": ""}
    return NuScenesDataset(
        data_root="", ann_file=str(infos), data_prefix=prefix, metainfo={"classes": classes}
    )


@pytest.mark.real
def test_on_real_infos_it_is_the_official_list(nuscenes_real: Path) -> None:
    """mmdet3d 1.4 counts boxes with LiDAR points; CMT's rule is the next test's."""
    from mmdet3d.datasets import CBGSDataset

    infos = nuscenes_real / INFOS_V2
    official = official_dataset(infos, CLASS_NAMES)
    records = {record.token: record for record in read_infos(infos, nuscenes_real)}
    assert len(official) == len(records) > 5
    present = np.zeros((len(records), len(CLASS_NAMES)), np.bool_)
    for index, row in enumerate(present):
        annotations = records[official.get_data_info(index)["token"]].annotations
        labels = annotations.labels[annotations.lidar_points > 0]
        row[labels[labels >= 0]] = True
        assert set(np.flatnonzero(row)) == official.get_cat_ids(index) - {-1}

    occurs = present.any(axis=0)  # not all classes do in ten samples
    classes = tuple(name for name, is_in in zip(CLASS_NAMES, occurs, strict=True) if is_in)
    np.random.seed(11)  # noqa: NPY002 - as above
    expected = CBGSDataset(official_dataset(infos, classes)).sample_indices
    drawn = ClassBalance(present[:, occurs]).draw(np.random.RandomState(11))
    assert drawn.tolist() == expected


@pytest.mark.real
def test_a_class_is_present_when_real_infos_name_it_at_all(nuscenes_real: Path) -> None:
    """CMT's rule: 1.0.0rc5's `get_cat_ids` without `use_valid_flag`."""
    path = nuscenes_real / INFOS_V1
    infos = pickle.loads(path.read_bytes())["infos"]
    names = {info["token"]: set(info["gt_names"]) & set(CLASS_NAMES) for info in infos}
    records = read_infos(path, nuscenes_real)
    assert len(records) == len(names) > 50
    for record in records:
        labels = record.annotations.labels
        assert {CLASS_NAMES[label] for label in labels[labels >= 0]} == names[record.token]
