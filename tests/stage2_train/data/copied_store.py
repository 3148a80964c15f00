"""A store that a test may damage: what is read from it, and where its bytes lie."""

from pathlib import Path

from cache.reader import CachedFeatures
from stage2_train.data.dataset import StoreDataset


def dataset_of(path: Path) -> StoreDataset:
    store = CachedFeatures(path)
    return StoreDataset(store, store.tokens)


def file_of(path: Path, name: str) -> Path:
    store = CachedFeatures(path).store
    (spec,) = (spec for spec in store.arrays if spec.name == name)
    return Path(str(store.file(spec, 0)))
