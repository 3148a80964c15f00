"""Live and stored features of a tiny data set, on a CPU and with the noise of a GPU simulated.

The noise is that of cuDNN as an H200 showed it between batch sizes: about a float16 step at the
RMS of a channel, also where the value is nearly zero, and rounded to float16 as autocast leaves it
(2e4 steps, measured at the value).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from shared.config.cut import Cut
from shared.config.preset import Preset
from shared.data.features import FeatureSource, FrameFeatures, as_floats
from stage1_extract.parity.compare_sources import Extent, compare_sources
from stage1_extract.parity.map_distance import float16_step
from stage1_extract.parity.parity_report import ParityRow

NOISE_STEPS = 0.3  # standard deviation; the largest of 100,000 values is 1.3 steps
STORE_BATCH = 4

Read = Callable[[str, int, int], FrameFeatures]


class Source:
    """A feature source whose samples are a function of token, variant and batch size."""

    def __init__(self, like: FeatureSource, read: Read) -> None:
        self.like, self.read_sample = like, cache(read)

    @property
    def preset(self) -> Preset:
        """The detector."""
        return self.like.preset

    @property
    def cut(self) -> Cut:
        """Where the frozen part ends."""
        return self.like.cut

    @property
    def tokens(self) -> tuple[str, ...]:
        """Sample tokens."""
        return self.like.tokens

    def read(
        self, tokens: Sequence[str], variant: int = 0, camera_variant: int | None = None
    ) -> list[FrameFeatures]:
        """Return samples as they come out of a batch of as many."""
        assert camera_variant is None, "these sources have no variants to combine"
        return [self.read_sample(token, variant, len(tokens)) for token in tokens]


def on_cpu(live: FeatureSource) -> Source:
    """Return the source itself: on a CPU the batch size changes nothing."""
    return Source(live, lambda token, variant, _: live.read([token], variant)[0])


def on_gpu(live: FeatureSource) -> Source:
    """Return the source with the noise of cuDNN, which differs between batch sizes."""

    def read(token: str, variant: int, size: int) -> FrameFeatures:
        (sample,) = live.read([token], variant)
        random = np.random.default_rng([*token.encode(), variant, size])
        maps = {name: with_noise(as_floats(v), random) for name, v in sample.maps.items()}
        return replace(sample, maps=maps)

    return Source(live, read)


def with_noise(values: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    """Add noise of a part of a step at the RMS of each plane; the result is a float16 number."""
    rms = np.sqrt(np.square(values).mean(axis=(-2, -1), keepdims=True))
    step = float16_step(torch.from_numpy(rms)).numpy()
    noise = random.normal(0, NOISE_STEPS, values.shape).astype(np.float32) * step
    return (values + noise).astype(np.float16).astype(np.float32)


def stored(live: Source) -> Source:
    """Return what a store made by an extraction in batches of `STORE_BATCH` holds."""

    def read(token: str, variant: int, _: int) -> FrameFeatures:
        sample = live.read_sample(token, variant, STORE_BATCH)
        maps = {name: as_floats(values).astype(np.float16) for name, values in sample.maps.items()}
        return replace(sample, maps=maps)

    return Source(live, read)


@dataclass(frozen=True)
class World:
    """Where the live side runs, and what is asked there.

    Args:
        run: turns a source that computes on the CPU into one of this world.
        batch_sizes, exact_at: see `Extent`.
    """

    run: Callable[[FeatureSource], Source]
    batch_sizes: tuple[int, ...]
    exact_at: tuple[int, ...]

    def compare(
        self,
        live: Source,
        cached: FeatureSource,
        *,
        detector_samples: int = 0,
        checkpoint: Path | None = None,
    ) -> list[ParityRow]:
        """Compare all rows; a detector without a checkpoint is seeded."""
        extent = Extent(
            rows=len(live.tokens),
            detector_samples=detector_samples,
            batch_sizes=self.batch_sizes,
            exact_at=self.exact_at,
        )
        return compare_sources(live, cached, extent, checkpoint)


CPU = World(on_cpu, (1, 2), (1, 2))
OTHER_CPU = World(on_cpu, (1, 2), ())
SAME_GPU = World(on_gpu, (1, 2, STORE_BATCH), (STORE_BATCH,))
OTHER_GPU = World(on_gpu, (1, 2), ())
