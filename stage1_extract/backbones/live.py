"""The live source of features: runs raw nuScenes files through the frozen backbones on request."""

from collections.abc import Sequence

import numpy as np
import torch

from shared.config.augmentation import VariantDraws
from shared.config.cut import Cut
from shared.config.preset import Preset
from shared.data.features import FrameFeatures
from shared.errors import MissingRowError
from stage1_extract.backbones.frozen import FrozenBackbones
from stage1_extract.nuscenes.records import SampleRecord
from stage1_extract.preprocessing.raw_frames import RawFrame, RawFrames
from stage1_extract.preprocessing.voxels import batch_voxels


class LiveFeatures:
    """A `FeatureSource` that computes the requested samples, in any variant.

    Args:
        records: the samples.
        frozen: the backbones, on the device on which they are to run.
        variants: how augmented variants are drawn; None if there is only variant 0.
    """

    def __init__(
        self,
        records: Sequence[SampleRecord],
        frozen: FrozenBackbones,
        variants: VariantDraws | None = None,
    ) -> None:
        self.raw = RawFrames(records, frozen.preset, variants)
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

    def run(self, raw: Sequence[RawFrame]) -> list[FrameFeatures]:
        """Run raw samples as one batch; the returned maps are float32 on the CPU."""
        device = self.frozen.device
        pictures = [sample.images for sample in raw if sample.images is not None]
        images = torch.stack(pictures).to(device, non_blocking=True) if pictures else None
        clouds = [sample.voxels for sample in raw if sample.voxels is not None]
        voxels = batch_voxels(clouds).to(device) if clouds else None
        maps = {
            name: np.asarray(values.float().cpu().numpy())
            for name, values in self.frozen(images, voxels).items()
        }
        return [
            FrameFeatures(
                frame=sample.frame,
                maps={name: maps[name][i] for name in maps},
                sources=sample.sources,
            )
            for i, sample in enumerate(raw)
        ]
