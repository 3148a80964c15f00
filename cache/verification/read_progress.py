"""How far a read of hours is: a bar on a terminal, and lines of the log where there is none."""

import logging
import time
from types import TracebackType

from tqdm import tqdm

from shared.wording import counted, duration

TOLD_EVERY_S = 60.0

_log = logging.getLogger(__name__)


class ReadProgress:
    """Counts rows. Without a terminal it logs how many there are, and about every minute the rest.

    Args:
        about: what is read.
        rows: how many.
        row_bytes: uncompressed size of a row; None where that is not known.
    """

    def __init__(self, about: str, rows: int, row_bytes: int | None = None) -> None:
        self._about, self._rows, self._row_bytes = about, rows, row_bytes
        unit = "row" if row_bytes is None else "B"
        total = rows * (row_bytes or 1)
        # In bytes it is scaled: 1.2G of 3.4G.
        scaled = row_bytes is not None
        self.bar = tqdm(total=total, desc=about, unit=unit, unit_scale=scaled, disable=None)
        self._done, self._began = 0, time.monotonic()
        self._told_at = self._began
        if self.bar.disable and rows:
            size = "" if row_bytes is None else f", {total / 1e9:.3g} GB uncompressed"
            _log.info("%s: %s to read%s", about, counted(rows, "row"), size)

    def __enter__(self) -> "ReadProgress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.close()

    def add(self, rows: int) -> None:
        """Count rows that were read."""
        self._done += rows
        self.bar.update(rows * (self._row_bytes or 1))
        now = time.monotonic()
        if not self.bar.disable or now - self._told_at < TOLD_EVERY_S or self._done >= self._rows:
            return
        self._told_at = now
        left_s = (now - self._began) / self._done * (self._rows - self._done)
        _log.info(
            "%s: %d of %s read, about %s left",
            self._about,
            self._done,
            counted(self._rows, "row"),
            duration(left_s),
        )
