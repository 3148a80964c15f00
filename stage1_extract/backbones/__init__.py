"""The frozen backbones, built from mmdet's and mmdet3d's modules, and the live source of features.

May import nuscenes/ and preprocessing/.
"""

from stage1_extract.backbones.mmcv_ops import allow_missing_ops

allow_missing_ops()  # before any module of this folder imports mmdet or mmdet3d
