"""The live source of features: runs raw nuScenes files through the frozen backbones on request."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from shared.config.augmentation import VariantDraws
from shared.config.cut import Cut
from shared.config.preset import Preset
from shared.data.features import FrameFeatures
from shared.errors import ConfigError, MissingRowError
from shared.process.memory.freed_memory import keep_freed_memory
from stage1_extract.backbones.frozen import FrozenBackbones
from stage1_extract.nuscenes.records import SampleRecord
from stage1_extract.preprocessing.images import normalised
from stage1_extract.preprocessing.raw_frames import RawFrame, RawFrames
from stage1_extract.preprocessing.voxels import Voxels, batch_voxels


@dataclass(frozen=True, kw_only=True, slots=True)
class RawBatch:
    """Samples joined for one forward; B of them, of which those after the last row are padding.

    Args:
        rows: the samples, without images and voxels.
        images: (B, V, 3, height, width) uint8; None for a preset without cameras.
        voxels: of all samples; None for a preset without LiDAR.
        stripes: (B, V, height + width) bool, see `RawFrame`; None if GridMask masks none of them.
    """

    rows: tuple[RawFrame, ...]
    images: Tensor | None
    voxels: Voxels | None
    stripes: Tensor | None = None


@contextlib.contextmanager
def fixed_algorithms() -> Iterator[None]:
    """Let cuDNN choose algorithms by the shapes alone, only reproducible ones, and no TF32.

    If it tried them out, as `benchmark` lets it, two runs could round differently. torch rounds
    float32 convolutions to TF32's 10 bits by itself; `shared_conv` of the cut `memory` is one.
    """
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32
    cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32 = False, True, False
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32 = before


@contextlib.contextmanager
def _explained_memory(batch: RawBatch) -> Iterator[None]:
    """Say what to do if a batch does not fit into the memory of a GPU."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        samples = len(batch.rows) if batch.images is None else len(batch.images)
        raise ConfigError(
            f"the backbones need more memory than the GPU has left, for a batch of {samples} "
            f"samples: {str(error).splitlines()[0]} If other programs use this GPU, end them and "
            "run the same command again. If not, this GPU needs a store of smaller batches: "
            "extract-features with a smaller --batch-size into a new --store"
        ) from error


def join_raw(
    raw: Sequence[RawFrame], *, size: int = 0, is_pinned: bool = False, is_copied: bool = False
) -> RawBatch:
    """Join samples for one forward.

    Args:
        raw: at least one sample.
        size: repeat the last sample until there are so many.
        is_pinned: join them in page-locked memory, from which a GPU copies while it computes.
        is_copied: copy a single sample as well, because its memory will be overwritten.
    """
    padded = [*raw, *[raw[-1]] * (size - len(raw))]
    pictures = [sample.images for sample in padded if sample.images is not None]
    clouds = [sample.voxels for sample in padded if sample.voxels is not None]
    images = None
    if len(pictures) == 1 and not is_pinned and not is_copied:
        images = pictures[0][None]  # no copy
    elif pictures:
        shape = (len(pictures), *pictures[0].shape)
        images = torch.empty(shape, dtype=pictures[0].dtype, pin_memory=is_pinned)
        # By NumPy: torch would take all cores for the copy, which have work.
        np.stack([picture.numpy() for picture in pictures], out=images.numpy())
    return RawBatch(
        rows=tuple(replace(sample, images=None, voxels=None, stripes=None) for sample in raw),
        images=images,
        voxels=batch_voxels(clouds, is_pinned=is_pinned) if clouds else None,
        stripes=_joined_stripes(padded, is_pinned=is_pinned),
    )


def _joined_stripes(samples: Sequence[RawFrame], *, is_pinned: bool) -> Tensor | None:
    masked = next((sample.stripes for sample in samples if sample.stripes is not None), None)
    if masked is None:
        return None
    whole = np.ones_like(masked)
    stripes = torch.empty((len(samples), *masked.shape), dtype=torch.bool, pin_memory=is_pinned)
    own = [whole if sample.stripes is None else sample.stripes for sample in samples]
    np.stack(own, out=stripes.numpy())
    return stripes


class LiveFeatures:
    """A `FeatureSource` that computes the requested samples, in any variant.

    Args:
        records: the samples.
        frozen: the backbones, on the device on which they are to run.
        variants: how augmented variants are drawn; None if there is only variant 0.
        raw: loads the records, instead of a loader of the whole preset without a condition.
    """

    def __init__(
        self,
        records: Sequence[SampleRecord],
        frozen: FrozenBackbones,
        variants: VariantDraws | None = None,
        raw: RawFrames | None = None,
    ) -> None:
        keep_freed_memory()  # of this process, also of threads that write what is computed
        if raw is None:
            raw = RawFrames(records, frozen.preset, variants)
        self.raw = raw
        self.frozen = frozen
        self._position = {record.token: i for i, record in enumerate(records)}

    @property
    def preset(self) -> Preset:
        """The detector the backbones belong to."""
        return self.frozen.preset

    @property
    def cut(self) -> Cut:
        """Where the frozen part ends."""
        return self.frozen.cut

    @property
    def tokens(self) -> tuple[str, ...]:
        """Tokens of the records, in their order."""
        return tuple(self._position)

    def read(
        self, tokens: Sequence[str], variant: int = 0, camera_variant: int | None = None
    ) -> list[FrameFeatures]:
        """Load samples and run them as one batch; see `FeatureSource`.

        Raises:
            MissingRowError: if there is no such record.
            DatasetError: if a raw file is missing or broken.
        """
        for token in tokens:
            if token not in self._position:
                raise MissingRowError(f"sample {token} is not among the {len(self.raw)} records")
        places = [self._position[token] for token in tokens]
        return self.run([self.raw.load(variant, place, camera_variant) for place in places])

    def maps(self, batch: RawBatch) -> dict[str, Tensor]:
        """Run a batch; the maps stay on the device, as `FrozenBackbones.forward` returns them.

        Raises:
            ConfigError: if the device's memory is too small.
        """
        images = batch.images
        with fixed_algorithms(), _explained_memory(batch):
            if images is not None:
                assert self.preset.camera is not None
                images = images.to(self.frozen.device, non_blocking=True)
                images = normalised(images, self.preset.camera, batch.stripes)
            maps: dict[str, Tensor] = self.frozen(images, batch.voxels)
        return maps

    def run(self, raw: Sequence[RawFrame]) -> list[FrameFeatures]:
        """Run raw samples as one batch; the returned maps are float32 on the CPU."""
        maps = {
            name: np.asarray(values.float().cpu().numpy())
            for name, values in self.maps(join_raw(raw)).items()
        }
        return [
            FrameFeatures(
                frame=sample.frame,
                maps={name: maps[name][i] for name in maps},
                sources=sample.sources,
            )
            for i, sample in enumerate(raw)
        ]
