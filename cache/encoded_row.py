"""A row as it goes to disk: compressed arrays, their digests, and the statistics of its maps.

Rows are independent of each other, so threads encode them side by side: compression, checksums,
digests and NumPy's arithmetic run without Python's global lock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cache.format.codec import CODECS, Sealed
from cache.format.row_codec import decode_maps, encode_frame
from cache.format.schema import BOX_COUNT, ArraySpec, Row, row_digest
from cache.format.statistics import MeasuredFeatures, Statistics
from shared.data.features import Frame, FrameFeatures, QuantisedMap, Sources


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedRow:
    """A row without its values.

    Args:
        frame: which row it is.
        sealed: by array, the bytes for the disk.
        digests: by array, see `schema.row_digest`.
        statistics: by feature map, of the values as they will be read.
        sources: the sensor files that it was made from.
    """

    frame: Frame
    sealed: Mapping[str, Sealed]
    digests: Mapping[str, str]
    statistics: Mapping[str, Statistics]
    sources: Sources

    @property
    def disk_bytes(self) -> int:
        """Bytes of its arrays on disk."""
        return sum(len(piece) for pieces in self.sealed.values() for piece in pieces)


def encode_row(
    specs: Sequence[ArraySpec], features: FrameFeatures, digest_algorithm: str
) -> EncodedRow:
    """Check, quantise, digest and compress a row.

    Args:
        specs: every array of the store.
        features: of the row.
        digest_algorithm: of the store.

    Raises:
        CacheError: as `row_codec.encode_frame`.
    """
    row = encode_frame(specs, features)
    boxes = int(row[BOX_COUNT])
    sealed, digests = {}, {}
    for spec in specs:  # array by array: a small one is still in the core's cache the second time
        digests[spec.name] = row_digest(spec, row[spec.name], boxes, digest_algorithm)
        sealed[spec.name] = CODECS[spec.codec].seal_row(row[spec.name])
    return EncodedRow(
        frame=features.frame,
        sealed=sealed,
        digests=digests,
        statistics=_statistics(specs, row, features),
        sources=features.sources,
    )


def _statistics(
    specs: Sequence[ArraySpec], row: Row, features: FrameFeatures
) -> dict[str, Statistics]:
    """Return the statistics of every map: as measured where it was computed, else from the row."""
    measures = features.measures if isinstance(features, MeasuredFeatures) else {}
    statistics = {}
    for name, values in decode_maps(specs, row).items():
        if isinstance(values, QuantisedMap):
            statistics[name] = Statistics.of_quantised(values)
        elif name in measures:
            statistics[name] = measures[name].statistics
        else:
            statistics[name] = Statistics.of(values)
    return statistics
