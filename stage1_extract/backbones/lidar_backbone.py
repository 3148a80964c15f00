"""The frozen point backbone: mmdet3d's modules."""

import logging

from spconv.core import ConvAlgo
from torch import nn

from shared.config.preset import LidarBranch, PointGrid
from stage1_extract.backbones.spconv_kernels import no_gpu_kernels

with no_gpu_kernels():
    import spconv.pytorch as spconv
    from mmdet3d.models.backbones import SECOND
    from mmdet3d.models.middle_encoders import SparseEncoder

POINT_CHANNELS = 5  # x, y, z, intensity, time lag
BATCH_NORM = {"eps": 1e-3, "momentum": 0.01}


def build_sparse_encoder(grid: PointGrid, lidar: LidarBranch) -> nn.Module:
    """Build the sparse 3D convolutions: voxels to a dense BEV map with two height slices.

    Source: CMT, cmt_voxel0100_r50_800x320_cbgs.py `pts_middle_encoder`.
    """
    # spconv creates its tensors through a class of torch.fx, which warns about its own internals.
    logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)
    encoder: nn.Module = SparseEncoder(
        in_channels=POINT_CHANNELS,
        base_channels=lidar.encoder_channels[0][0],
        sparse_shape=list(grid.sparse_shape),
        output_channels=lidar.encoder_out_channels,
        order=("conv", "norm", "act"),
        encoder_channels=lidar.encoder_channels,
        encoder_paddings=((0, 0, 1), (0, 0, 1), (0, 0, [0, 1, 1]), (0, 0)),
        norm_cfg={"type": "BN1d", **BATCH_NORM},
        block_type="basicblock",
    )
    _share_index_pairs(encoder)
    return encoder


def _share_index_pairs(encoder: nn.Module) -> None:
    """Let the submanifold convolutions of a stage look up their neighbours only once.

    None of them moves a voxel, so all have the same neighbours, and each multiplies the same
    numbers in the same order as after a lookup of its own.

    Upstream: mmdet3d's SparseBasicBlock names no `indice_key`, so every layer repeats the lookup;
    on a CPU that is half of the encoder's time.
    """
    stages = encoder.get_submodule("encoder_layers").children()
    for number, layers in enumerate(stages, start=1):
        for module in layers.modules():
            if isinstance(module, spconv.SubMConv3d):
                # "subm1" is the key of `conv_input`, whose voxels are those of the first stage.
                module.indice_key = f"subm{number}"


def build_second(lidar: LidarBranch) -> nn.Module:
    """Build SECOND: the BEV map to two maps, at stride 8 and 16 of the voxel grid.

    Source: CMT, cmt_voxel0100_r50_800x320_cbgs.py `pts_backbone`.
    """
    second: nn.Module = SECOND(
        in_channels=2 * lidar.encoder_out_channels,
        out_channels=list(lidar.second_channels),
        layer_nums=list(lidar.second_layers),
        layer_strides=[1, 2],
        norm_cfg={"type": "BN", **BATCH_NORM},
        conv_cfg={"type": "Conv2d", "bias": False},
    )
    return second


def use_native_convolutions(encoder: nn.Module) -> None:
    """Make spconv use its Native algorithm, the only one that runs on CPU tensors."""
    for module in encoder.modules():
        if isinstance(module, spconv.conv.SparseConvolution):
            module.algo = ConvAlgo.Native
