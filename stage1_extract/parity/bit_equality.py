"""Where a store must hold the rounded live values bit for bit: where the same kernels compute both.

That is on the same model of device, with the same version of torch, at the batch size of the
extraction. Libraries choose kernels by batch size, on a CPU too: from three samples on, the last
bit of some float32 maps changed on one (docs/parity.md).
"""

from dataclasses import dataclass

from stage1_extract.parity.compare_sources import BATCH_SIZES


@dataclass(frozen=True, kw_only=True, slots=True)
class Computer:
    """What computed features.

    Args:
        device: see `shared.process.device.device_name`; "" if not known.
        torch: version; "" if not known.
        batch_size: samples per forward.
    """

    device: str
    torch: str
    batch_size: int


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


def live_batches(store: Computer, *, device: str, torch: str) -> LiveBatches:
    """Choose the batch sizes of the live side, and those at which bit-equality is asked.

    Args:
        store: what the store was made with.
        device: that the live side runs on.
        torch: its version there.
    """
    own = store.batch_size
    sizes = tuple(sorted({*BATCH_SIZES, own}))
    for what, then, today in (("", store.device, device), ("torch ", store.torch, torch)):
        if then != today:
            was = f"{what}{then}" if then else f"a {what or 'device '}that it does not name"
            reason = f"nowhere: the store was made with {was}, this is {what}{today}"
            return LiveBatches(sizes=sizes, exact_at=(), reason=reason)
    reason = f"at batch size {own}, that of the extraction, on {device}"
    return LiveBatches(sizes=sizes, exact_at=(own,), reason=reason)
