"""The frozen backbones, built from modules of mmdet and mmdet3d, and the live source of features.

In eval mode, without gradients, and with the same digests after a run as before. The only folder
that imports mmdet and mmdet3d. May import nuscenes/ and preprocessing/.
"""

from stage1_extract.backbones.mmcv_ops import allow_missing_ops

allow_missing_ops()  # before any module of this folder imports mmdet or mmdet3d
