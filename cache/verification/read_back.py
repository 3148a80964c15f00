"""Reading the rows of a shard back: what is really on disk."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.coordination.store import Store
from cache.format.codec import DamageError
from cache.format.row_codec import decode_maps
from cache.format.schema import BOX_COUNT, row_digest
from cache.format.statistics import Statistics
from shared.data.features import as_floats
from shared.float16 import is_finite


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadBack:
    """A row, as it is on disk now.

    Args:
        token: of its sample.
        digests: of the values of every array that could be read.
        problems: by array, why it could not be read, or what is wrong with its values.
        statistics: by feature map, if requested and nothing is wrong.
    """

    token: str
    digests: dict[str, str]
    problems: dict[str, str]
    statistics: dict[str, Statistics]


def read_back(
    store: Store, shard: int, *, digest_algorithm: str, needs_statistics: bool = False
) -> Iterator[ReadBack]:
    """Yield every row of a shard; damage is reported, not raised.

    Args:
        store: with the shard, which may lack its ledger entry.
        shard: its number.
        digest_algorithm: of `ReadBack.digests`; the ledger's are the store's own.
        needs_statistics: whether to compute them.

    Raises:
        CacheError: if a file cannot be read now, which says nothing about its content.
    """
    variant, samples = store.layout.span(shard)
    for sample in samples:
        row: dict[str, NDArray[Any]] = {}
        problems: dict[str, str] = {}
        for spec in store.arrays:
            try:
                row[spec.name] = store.read_array(spec, variant, sample)
            except DamageError as error:
                problems[spec.name] = str(error)
                continue
            if spec.feature_map is not None and not is_finite(row[spec.name]):
                problems[spec.name] = "holds a value that is not finite"
        boxes = int(row.get(BOX_COUNT, np.zeros((), np.int64)))  # if damaged, noted above
        maps = decode_maps(store.arrays, row) if needs_statistics and not problems else {}
        yield ReadBack(
            token=store.samples.tokens[sample],
            digests={
                spec.name: row_digest(spec, row[spec.name], boxes, digest_algorithm)
                for spec in store.arrays
                if spec.name in row
            },
            problems=problems,
            statistics={name: Statistics.of(as_floats(values)) for name, values in maps.items()},
        )
