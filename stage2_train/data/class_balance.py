"""Class-balanced sampling (CBGS): an epoch in which every class is drawn equally often.

n samples.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from shared.config.classes import CLASS_NAMES
from shared.data.feature_store import FeatureStore
from shared.errors import ConfigError

READERS = 8  # threads: reading small arrays is mostly waiting for a disk or a network


class ClassBalance:
    """Draws the samples of an epoch: equally many for every class, among the samples with it.

    An epoch has as many draws as there are (sample, class in it) pairs: 28,130 training samples of
    nuScenes become about 124,000. A sample without any class is never drawn. Where there are fewer
    pairs than classes, every class that occurs is drawn once.

    Args:
        present: (n, classes) bool, whether a class occurs in a sample.

    Raises:
        ConfigError: if no class occurs in any sample.

    Source:
        mmdet3d, dataset_wrappers.py `CBGSDataset` (the same in 1.0.0rc5 and 1.4.0): with the same
        random numbers `draw` returns exactly its list. It draws once, when training starts; here
        every epoch draws anew, so that all samples of a common class are used in the long run.
    """

    def __init__(self, present: NDArray[np.bool_]) -> None:
        self.samples_of = [np.flatnonzero(column) for column in present.T]
        pairs = sum(len(samples) for samples in self.samples_of)
        if not pairs:
            raise ConfigError(
                f"none of {len(present)} samples has a box of a class, so their classes cannot be "
                "balanced; train on a split with annotations"
            )
        # In this order of operations: upstream truncates the float, and one less is another list.
        share = 1.0 / present.shape[1]
        self.draws = [
            # Upstream: divides by zero where a class does not occur at all, and draws nothing from
            # fewer pairs than classes: its epoch is empty.
            max(1, int(len(samples) * (share / (len(samples) / pairs)))) if len(samples) else 0
            for samples in self.samples_of
        ]

    def __len__(self) -> int:
        return sum(self.draws)

    def draw(self, random: np.random.RandomState) -> NDArray[np.int64]:
        """Return the samples of an epoch, class by class.

        Args:
            random: NumPy's legacy generator, whose numbers are the same in every version.
        """
        drawn = [
            random.choice(samples, count)
            for samples, count in zip(self.samples_of, self.draws, strict=True)
            if count
        ]
        return np.concatenate(drawn)


def class_balance(store: FeatureStore, tokens: Sequence[str]) -> ClassBalance:
    """Read which classes occur in samples of a store.

    Every annotated box of a class counts, also without points or out of range, as in CMT.

    Raises:
        CacheError: if a sample is missing or damaged.

    Source:
        mmdet3d 1.0.0rc5, nuscenes_dataset.py `get_cat_ids` without `use_valid_flag`, which CMT's
        configs do not set.
    """
    present = np.zeros((len(tokens), len(CLASS_NAMES)), np.bool_)
    with ThreadPoolExecutor(READERS) as pool:
        labels = tqdm(
            pool.map(store.labels, tokens),
            total=len(tokens),
            desc="classes in the samples",
            unit="sample",
            disable=None,
            delay=1.0,
        )
        for row, of_sample in zip(present, labels, strict=True):
            row[of_sample[of_sample >= 0]] = True
    return ClassBalance(present)
