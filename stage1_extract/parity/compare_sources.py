"""The comparison behind `check-parity`: two feature sources, one detector, the same results.

Every drawn row is compared in its maps, geometry and annotations. A few of them are computed at
every batch size, which shows the noise of the live side, go through the detector, and are compared
with the images of another variant.
"""

import logging
import math
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from shared.data.batch import collate
from shared.data.features import FeatureSource, FrameFeatures
from shared.data.targets import with_trainable_annotations
from shared.errors import InterruptedWorkError
from shared.model.detector import CmtDetector
from shared.model.initial_detector import aqr_config_of, fresh_detector
from shared.process.interrupts import Interrupts
from shared.wording import duration
from stage1_extract.parity.batch_composition import read_as_extracted, read_batches
from stage1_extract.parity.frame_bits import combined_frames_differences, frames_difference
from stage1_extract.parity.leg_differences import leg_differences
from stage1_extract.parity.map_distance import as_stored, map_differences
from stage1_extract.parity.parity_legs import SEED, Leg, run_leg
from stage1_extract.parity.parity_report import ParityReport, ParityRow
from stage1_extract.parity.row_sampling import draw_rows, group_rows

BATCH_SIZES = (1, 2)
NOISE_SAMPLES = 4  # rows computed at every batch size
GROUP = 2  # of these, held in memory together

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Extent:
    """How much is compared.

    Args:
        rows: drawn rows.
        detector_samples: those of them that go through the detector.
        variants: of the store.
        seed: of the draw.
        batch_sizes: of the live side, at least two.
        exact_at: those at which the store must hold the rounded live values bit for bit.
        slots: rows of a shard, so that the batches at `exact_at` are those of the extraction; None
            for batches of any samples.
    """

    rows: int
    detector_samples: int = NOISE_SAMPLES
    variants: int = 1
    seed: int = 0
    batch_sizes: tuple[int, ...] = BATCH_SIZES
    exact_at: Collection[int] = ()
    slots: int | None = None


def compare_sources(
    live: FeatureSource, cached: FeatureSource, extent: Extent, checkpoint: Path | None = None
) -> list[ParityRow]:
    """Compare two sources of the same samples.

    Args:
        live: the backbones.
        cached: the store.
        extent: how much of it.
        checkpoint: for necks, head and AQR, if it has AQR; without one, seeded random weights.

    Raises:
        InterruptedWorkError: on Ctrl-C or SIGTERM.
    """
    comparison = _Comparison(live, cached, extent, checkpoint)
    with Interrupts() as interrupts, comparison.bar:
        for done in comparison.steps():
            comparison.bar.update(done - comparison.bar.n)
            if interrupts.signum is not None:
                raise InterruptedWorkError(
                    f"{done} of {comparison.bar.total} rows were compared, which decides nothing. "
                    "Nothing was changed; the same command starts over",
                    interrupts.signum,
                )
    return comparison.report.rows()


class _Comparison:
    """The work of `compare_sources`, step by step."""

    def __init__(
        self, live: FeatureSource, cached: FeatureSource, extent: Extent, checkpoint: Path | None
    ) -> None:
        self._live, self._cached, self._extent = live, cached, extent
        aqr = None if checkpoint is None else aqr_config_of(checkpoint)
        self._detector: CmtDetector = fresh_detector(
            cached.preset, cached.cut, seed=SEED, checkpoint=checkpoint, aqr=aqr
        )
        self._batch_size = max(extent.exact_at or extent.batch_sizes)  # of most rows
        drawn = draw_rows(len(cached.tokens), extent.variants, extent.rows, extent.seed)
        wanted = math.ceil(max(NOISE_SAMPLES, extent.detector_samples) / GROUP)
        self._probed = group_rows(drawn, GROUP)[:wanted]
        probed = {(variant, place) for variant, places in self._probed for place in places}
        self._others = group_rows([row for row in drawn if row not in probed], self._batch_size)
        self.report = ParityReport(extent.exact_at)
        self.bar = tqdm(total=len(drawn), desc="parity", unit="row", disable=None)

    def steps(self) -> Iterator[int]:
        """Compare group by group; yield how many rows are done."""
        done, row_s, started = 0, 0.0, time.monotonic()
        for variant, places in self._probed:
            row_s = self._probe(variant, places, has_legs=done < self._extent.detector_samples)
            if not done:
                self._forecast(len(places), time.monotonic() - started, row_s)
            done += len(places)
            yield done
        for variant, places in self._others:
            live = self._read_live(places, variant, self._batch_size)
            self._compare(self._batch_size, live, self._read_stored(places, variant))
            done += len(places)
            yield done

    def _forecast(self, done: int, seconds: float, row_s: float) -> None:
        """Say how long the rest takes, measured on the first group of rows."""
        rest = sum(len(places) for _, places in self._others)
        left_s = (len(self._probed) - 1) * seconds + rest * row_s
        log.info(
            "%d of %d rows took %s, at batch sizes %s%s; the rest takes about %s. Ctrl-C stops it",
            done,
            self.bar.total,
            duration(seconds),
            ", ".join(map(str, self._extent.batch_sizes)),
            " and through the detector" if self._extent.detector_samples else "",
            duration(left_s),
        )

    def _probe(self, variant: int, places: Sequence[int], *, has_legs: bool) -> float:
        """Compare a few rows at every batch size, measure the noise between these, run the legs.

        Returns:
            Seconds per row that comparing it at a single batch size takes.
        """
        sizes = self._extent.batch_sizes
        at = {size: self._read_live(places, variant, size) for size in sizes[:-1]}
        started = time.monotonic()
        at[sizes[-1]] = self._read_live(places, variant, sizes[-1])
        stored = self._read_stored(places, variant)
        is_finite = self._compare(sizes[-1], at[sizes[-1]], stored)
        row_s = (time.monotonic() - started) / len(places)
        for size in sizes:
            is_finite &= size == sizes[-1] or self._compare(size, at[size], stored)
            rounded = [_as_stored(at[again], stored) for again in sizes if again != size]
            for frames in rounded:
                self.report.add_noise(size, map_differences(at[size], frames))
            if has_legs and is_finite:
                self._run_legs(size, at[size], stored, rounded)
        if self._extent.variants > 1 and self._cached.preset.camera is not None:
            self._compare_combined(variant, places)
        return row_s

    def _compare_combined(self, variant: int, places: Sequence[int]) -> None:
        """Compare rows with the images of the next variant, as training may combine them."""
        size, cameras = self._batch_size, (variant + 1) % self._extent.variants
        live = self._read_live(places, variant, size, cameras)
        stored = self._read_stored(places, variant, cameras)
        differences = [*map_differences(live, stored), *combined_frames_differences(live, stored)]
        self.report.add(size, differences)

    def _read_live(
        self, places: Sequence[int], variant: int, size: int, cameras: int | None = None
    ) -> list[FrameFeatures]:
        slots = self._extent.slots
        if slots is None or size not in self._extent.exact_at:
            return read_batches(self._live, places, variant, size, cameras)
        return read_as_extracted(self._live, places, variant, size, slots, cameras)

    def _read_stored(
        self, places: Sequence[int], variant: int, cameras: int | None = None
    ) -> list[FrameFeatures]:
        tokens = [self._cached.tokens[place] for place in places]
        return self._cached.read(tokens, variant, cameras)

    def _compare(
        self, size: int, live: Sequence[FrameFeatures], stored: Sequence[FrameFeatures]
    ) -> bool:
        """Compare rows without the detector; return whether all their maps are finite."""
        differences = [*map_differences(live, stored), frames_difference(live, stored)]
        self.report.add(size, differences)
        return not any(math.isnan(difference.value) for difference in differences)

    def _run_legs(
        self,
        size: int,
        live: Sequence[FrameFeatures],
        stored: Sequence[FrameFeatures],
        rounded: Sequence[Sequence[FrameFeatures]],
    ) -> None:
        """Run the detector on live, on rounded and on stored maps, in batches of `size` at most."""
        for start in range(0, len(live), size):
            part = slice(start, start + size)
            leg = self._leg(live[part], live[part])
            for frames in rounded:
                again = self._leg(frames[part], live[part], leg)
                self.report.add_noise(size, leg_differences(leg, again))
            cached = self._leg(stored[part], live[part], leg)
            self.report.add(size, leg_differences(leg, cached))

    def _leg(
        self,
        maps: Sequence[FrameFeatures],
        frames: Sequence[FrameFeatures],
        live: Leg | None = None,
    ) -> Leg:
        """Run a leg on maps of one source and frames of the live one, which are compared elsewhere.

        A lost box would otherwise leave legs that cannot be compared.
        """
        preset = self._detector.preset
        joined = [replace(a, frame=b.frame) for a, b in zip(maps, frames, strict=True)]
        batch = collate([with_trainable_annotations(sample, preset.grid) for sample in joined])
        return run_leg(self._detector, batch.to("cpu"), live)


def _as_stored(live: Sequence[FrameFeatures], like: Sequence[FrameFeatures]) -> list[FrameFeatures]:
    """Round live maps as a store does."""
    return [
        replace(
            ours, maps={name: as_stored(ours.maps[name], theirs.maps[name]) for name in ours.maps}
        )
        for ours, theirs in zip(live, like, strict=True)
    ]
