"""Two sides of a parity check, and where its result is kept."""

from collections.abc import Callable
from dataclasses import dataclass

from cache.inspection.parity_record import CheckedContent, ParityRecord
from shared.data.features import FeatureSource
from stage1_extract.parity.bit_equality import LiveBatches


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparedPair:
    """What is compared.

    Args:
        live: the backbones.
        device: that they run on.
        cached: what was stored.
        name: of it.
        batches: sizes of the live side's.
        samples, variants: rows to draw from are all of them.
        slots: rows of a shard, see `Extent`.
        content: of what was stored, taken before the check: what is written later is not covered.
        keep: stores the result.
    """

    live: FeatureSource
    device: str
    cached: FeatureSource
    name: str
    batches: LiveBatches
    samples: int
    variants: int
    slots: int | None
    content: CheckedContent
    keep: Callable[[ParityRecord], None]

    @property
    def rows(self) -> int:
        """Rows to draw from."""
        return self.samples * self.variants
