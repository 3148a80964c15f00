"""The whole detector in one module: backbones run in every step, as training without a store does.

    images, voxels -> img_backbone, pts_backbone -> maps -> what `shared.model.detector` does

A batch of raw input is a `Batch` whose maps are the network's input instead of features, so that it
is moved to a device by the same code. B samples, V cameras, M voxels of the whole batch.
"""

from dataclasses import replace

from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from shared.data.batch import Batch
from shared.model.denoising import DenoisingQueries
from shared.model.detector import CmtDetector
from shared.model.outputs import HeadOutputs
from stage1_extract.backbones.frozen import FrozenBackbones
from stage1_extract.preprocessing.images import normalised
from stage1_extract.preprocessing.voxels import Voxels

IMAGES, STRIPES = "images", "stripes"  # fields of `RawBatch`, the second if there is any
VOXELS = ("means", "coordinates")  # fields of `Voxels`


class LiveDetector(CmtDetector):
    """Backbones, necks and head, every parameter under its official name.

    Gradients reach the backbones unless their parameters are frozen, with
    `stage2_train.freezing.freezing.freeze` as any other part.

    Args:
        backbones: with their weights, cut at `backbone`.
        detector: necks and head of the same preset; its modules become this one's.
        rounded: round the maps to float16, as a store does.
    """

    def __init__(
        self,
        backbones: FrozenBackbones,
        detector: CmtDetector,
        *,
        rounded: bool = False,
    ) -> None:
        super().__init__(
            detector.preset,
            detector.cut,
            img_neck=detector.img_neck,
            pts_neck=detector.pts_neck,
            pts_bbox_head=detector.pts_bbox_head,
        )
        self.img_backbone = backbones.img_backbone
        self.pts_middle_encoder = backbones.pts_middle_encoder
        self.pts_backbone = backbones.pts_backbone
        # In a tuple, so that its modules are registered only once and it is not put in train mode.
        self._backbones = (backbones,)
        self.rounded = rounded
        for part in backbones.parts:
            self.get_submodule(part).requires_grad_(True)

    def train(self, mode: bool = True) -> "LiveDetector":
        """Set the mode; BatchNorm of the image backbone stays in eval mode, as upstream's does.

        Source: CMT, `norm_eval=True` of `img_backbone` in all configs. SECOND has no such option.
        """
        super().train(mode)
        for module in () if self.img_backbone is None else self.img_backbone.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        return self

    def forward(self, batch: Batch, denoising: DenoisingQueries | None = None) -> HeadOutputs:
        """Predict boxes from raw input; see `CmtDetector.forward`."""
        maps = self.features(batch)
        if self.rounded:
            maps = {name: values.half() for name, values in maps.items()}
        return super().forward(replace(batch, maps=maps), denoising)

    def features(self, batch: Batch) -> dict[str, Tensor]:
        """Return the backbones' maps of raw input; gradients may flow."""
        (backbones,) = self._backbones
        images = batch.maps.get(IMAGES)
        if images is not None:
            assert self.preset.camera is not None
            images = normalised(images, self.preset.camera, batch.maps.get(STRIPES))
        return backbones.maps(images, _voxels(batch))


def _voxels(batch: Batch) -> Voxels | None:
    if VOXELS[0] not in batch.maps:
        return None
    means, coordinates = (batch.maps[name] for name in VOXELS)
    return Voxels(means=means, coordinates=coordinates, samples=len(batch.tokens))
