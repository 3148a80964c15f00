"""Where a store must hold the rounded live values bit for bit: where the same kernels compute both.

On a CPU that is wherever the CPU has the same model and torch the same version, at any batch size.
A GPU's libraries choose kernels by batch size, so there it must be that of the extraction too.
"""

import re
from dataclasses import dataclass

from stage1_extract.parity.compare_sources import BATCH_SIZES

BATCH = re.compile(r"\bbatch\D*(\d+)")  # in the precision policy of a store from a GPU


@dataclass(frozen=True, kw_only=True, slots=True)
class Computer:
    """What computed features.

    Args:
        device: see `shared.process.device.device_name`; "" if not known.
        torch: version; "" if not known.
        precision: policy, see `cache.format.identity`.
    """

    device: str
    torch: str
    precision: str

    @property
    def batch_size(self) -> int | None:
        """Samples per forward, if the policy names them; on a CPU they do not matter."""
        named = BATCH.search(self.precision)
        return None if named is None else int(named[1])


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveBatches:
    """The batch sizes of the live side.

    Args:
        sizes: all of them.
        exact_at: those at which bit-equality is asked.
        reason: why there and not elsewhere.
    """

    sizes: tuple[int, ...]
    exact_at: tuple[int, ...]
    reason: str


def live_batches(store: Computer, now: Computer, *, is_cpu: bool) -> LiveBatches:
    """Choose the batch sizes of the live side, and those at which bit-equality is asked.

    Args:
        store: what the store was made with.
        now: what the live side runs on.
        is_cpu: whether that is a CPU.
    """
    own = store.batch_size
    sizes = BATCH_SIZES if own is None else tuple(sorted({*BATCH_SIZES, own}))
    for what, then, today in (("", store.device, now.device), ("torch ", store.torch, now.torch)):
        if then != today:
            was = f"{what}{then}" if then else f"a {what or 'device '}that it does not name"
            reason = f"the store was made with {was}, this is {what}{today}"
            return LiveBatches(sizes=sizes, exact_at=(), reason=f"nowhere: {reason}")
    if is_cpu:
        return LiveBatches(sizes=sizes, exact_at=sizes, reason=f"everywhere, on {now.device}")
    if own is None:
        reason = "the store does not name the batch size it was made with"
        return LiveBatches(sizes=sizes, exact_at=(), reason=f"nowhere: {reason}")
    reason = f"at batch size {own}, that of the extraction, on {now.device}"
    return LiveBatches(sizes=sizes, exact_at=(own,), reason=reason)
