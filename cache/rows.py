"""Re-reading rows: the digest of what really lies on disk, shard by shard."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cache.codec import DamageError
from cache.schema import BOX_COUNT, row_digest
from cache.store import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadBack:
    """One array of one row, as it is on disk now.

    Args:
        token, array: which.
        digest: of its values; empty if it could not be read.
        problem: why not, or what is wrong with the values; empty if nothing is.
    """

    token: str
    array: str
    digest: str
    problem: str


def read_back(store: Store, shard: int) -> Iterator[ReadBack]:
    """Read every array of every row of a shard; damage is reported, not raised."""
    view, samples = store.layout.span(shard)
    box_count_spec = next(spec for spec in store.arrays if spec.name == BOX_COUNT)
    for sample in samples:
        token = store.samples.tokens[sample]
        try:
            boxes = int(store.read_array(box_count_spec, view, sample))
        except DamageError:
            boxes = 0  # the loop below reports it
        for spec in store.arrays:
            digest, problem = "", ""
            try:
                values = store.read_array(spec, view, sample)
                digest = row_digest(spec, values, boxes)
                if spec.is_feature and not np.isfinite(values).all():
                    problem = "holds a value that is not finite"
            except DamageError as error:
                problem = str(error)
            yield ReadBack(token=token, array=spec.name, digest=digest, problem=problem)
