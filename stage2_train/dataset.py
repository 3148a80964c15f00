"""Frames of a feature store as batches for training and evaluation.

Worker processes are spawned and open the store themselves: Zarr's threads do not survive a fork.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from cache.reader import CachedFeatures
from shared.batch import Batch, collate
from shared.features import FrameFeatures
from shared.targets import with_trainable_annotations

Place = tuple[int, int]  # view, position in the dataset


class StoreDataset(Dataset[FrameFeatures]):
    """Samples of a store by view and position, with the annotations that training uses.

    Args:
        store: an open store; it re-opens itself in worker processes.
        tokens: the samples to give, in this order.
    """

    def __init__(self, store: CachedFeatures, tokens: Sequence[str]) -> None:
        self.store = store
        self.tokens = tuple(tokens)

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, place: Place) -> FrameFeatures:
        view, index = place
        (features,) = self.store.read([self.tokens[index]], view)
        return with_trainable_annotations(features, self.store.preset.grid)


class EpochSampler(Sampler[list[Place]]):
    """Every sample once per epoch, in an order and in views that depend only on seed and epoch.

    Args:
        samples: number of samples.
        views: views of each; every epoch draws one of them for each sample.
        batch_size: samples per batch; a shorter last batch is dropped unless it is the only one.
        seed: of the run.
        first_step: batches to leave out, counted from the run's beginning (resume).
    """

    def __init__(
        self, samples: int, batch_size: int, seed: int, *, views: int = 1, first_step: int = 0
    ) -> None:
        self.samples = samples
        self.views = views
        self.batch_size = min(batch_size, samples)
        self.seed = seed
        self.first_step = first_step

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one epoch."""
        return self.samples // self.batch_size

    def __iter__(self) -> Iterator[list[Place]]:
        step = self.first_step
        while True:
            epoch, position = divmod(step, self.steps_per_epoch)
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            order = torch.randperm(self.samples, generator=generator).tolist()
            views = torch.randint(self.views, (self.samples,), generator=generator).tolist()
            places = list(zip(views, order, strict=True))
            for start in range(position, self.steps_per_epoch):
                yield places[start * self.batch_size : (start + 1) * self.batch_size]
                step += 1


def training_batches(
    dataset: StoreDataset, sampler: Sampler[list[Place]], workers: int
) -> DataLoader[Batch]:
    """Return an endless loader of training batches in the sampler's order."""
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
        pin_memory=torch.cuda.is_available(),
    )
    return loader


def evaluation_batches(dataset: StoreDataset, batch_size: int, workers: int) -> DataLoader[Batch]:
    """Return a loader of every sample once, as recorded (view 0), in the dataset's order."""
    loader: DataLoader[Any] = DataLoader(
        dataset,
        sampler=[(0, index) for index in range(len(dataset))],
        batch_size=batch_size,
        collate_fn=collate,
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
        pin_memory=torch.cuda.is_available(),
    )
    return loader
