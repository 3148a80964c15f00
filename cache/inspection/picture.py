"""A picture of a store, finished or not: which rows it has, and what its values look like.

matplotlib is imported only here, when a picture is requested; a machine that trains needs none.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cache.coordination.ledger import LedgerEntry
from cache.coordination.store import Store
from shared.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH_IN = 10.0
BAR_IN, PANEL_IN = 1.6, 1.9  # heights of the completeness bar and of a feature map's panel
BAND_STDS = 1.0


def plot_store(store: Store, path: Path) -> None:
    """Plot completeness by variant and shard, and the statistics of every map shard by shard.

    Only the ledger is read, no features.

    Args:
        store: finished or not.
        path: PNG to write.

    Raises:
        ConfigError: if there is no matplotlib, or the file cannot be written.
        CacheError: if a ledger entry is damaged.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError as error:
        raise ConfigError(
            "a picture needs matplotlib, which is not installed here: pip install matplotlib (it "
            "is in the extra `extract`); `feature-cache show STORE` prints the same numbers"
        ) from error
    complete = sorted(store.ledger.complete() & frozenset(store.all_shards))
    entries = list(store.entries(complete))
    maps = list(dict.fromkeys(name for entry in entries for name in entry.statistics))
    heights = [BAR_IN, *[PANEL_IN] * len(maps)]
    figure = Figure(figsize=(WIDTH_IN, sum(heights)), layout="constrained")
    panels = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    _plot_completeness(panels[0], store, complete)
    for panel, name in zip(panels[1:], maps, strict=True):
        _plot_statistics(panel, name, entries, store.layout.shard_count)
    if maps:
        panels[1].legend(
            loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, fontsize="small"
        )
        panels[-1].set_xlabel("shard of the store")
    for panel in panels:
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    try:
        figure.savefig(path, format="png")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error


def _plot_completeness(panel: "Axes", store: Store, complete: list[int]) -> None:
    """Plot a row per variant with a cell per shard, filled where the shard is complete."""
    layout = store.layout
    cells = np.zeros(layout.shard_count)
    cells[complete] = 1
    panel.imshow(
        cells.reshape(layout.variants, layout.shards_per_variant),
        aspect="auto",
        cmap="Blues",
        vmin=0,
        vmax=1.3,
        interpolation="nearest" if layout.shards_per_variant < 1000 else "antialiased",
    )
    rows = store.rows_in(frozenset(complete))
    panel.set_title(
        f"{store.path.name}: {rows} of {layout.rows} rows, {len(complete)} of "
        f"{layout.shard_count} shards complete"
    )
    panel.set_yticks(
        range(layout.variants), [f"variant {variant}" for variant in range(layout.variants)]
    )
    panel.set_xlabel(f"shard of the variant, {layout.slots} rows each")


def _plot_statistics(panel: "Axes", name: str, entries: list[LedgerEntry], shards: int) -> None:
    """Plot mean, standard deviation and extremes of a map over the shards."""
    of_map: Any = [entry.statistics[name] for entry in entries]
    at = [entry.shard for entry in entries]
    mean, std, low, high = (
        np.array([getattr(statistics, column) for statistics in of_map])
        for column in ("mean", "std", "min", "max")
    )
    panel.vlines(at, low, high, color="0.8", label="min to max")
    panel.errorbar(at, mean, BAND_STDS * std, fmt=".", color="tab:blue", label="mean and std")
    panel.set_yscale("symlog", linthresh=float(std.max()) or 1.0)
    panel.set_xlim(-0.5, shards - 0.5)
    panel.set_ylabel(name)
