"""Which samples the live side computes together.

Kernels may treat a sample differently by its place in a batch and by what is beside it, so
bit-equality is asked of the very batches of the extraction: they start with each shard, and the
last sample of a shard fills up its last batch.
"""

from collections.abc import Sequence

from shared.data.features import FeatureSource, FrameFeatures


def read_batches(
    source: FeatureSource,
    places: Sequence[int],
    variant: int,
    size: int,
    camera_variant: int | None = None,
) -> list[FrameFeatures]:
    """Read samples in batches of exactly `size`; the last sample fills up the last batch.

    Args:
        source: to read from.
        places: positions among the source's samples.
        variant: of all of them.
        size: of a batch.
        camera_variant: of all images, see `FeatureSource.read`.
    """
    frames = []
    for start in range(0, len(places), size):
        batch = [source.tokens[place] for place in places[start : start + size]]
        full = [*batch, *[batch[-1]] * (size - len(batch))]
        frames += source.read(full, variant, camera_variant)[: len(batch)]
    return frames


def read_as_extracted(
    source: FeatureSource,
    places: Sequence[int],
    variant: int,
    size: int,
    slots: int,
    camera_variant: int | None = None,
) -> list[FrameFeatures]:
    """Read every sample in the batch that the extraction computed it in.

    Args:
        source: see `read_batches`, as for the following.
        places: may be of different batches.
        variant: of all of them.
        size: of a batch of the extraction.
        slots: rows of a shard; a batch ends where a shard does.
        camera_variant: of all images.
    """
    frames = []
    for place in places:
        shard = place // slots * slots
        first = shard + (place - shard) // size * size
        batch = [*source.tokens[first : min(first + size, shard + slots)]]
        full = [*batch, *[batch[-1]] * (size - len(batch))]  # as the extraction pads it
        frames.append(source.read(full, variant, camera_variant)[place - first])
    return frames
