"""Compare our preprocessing of real frames with other libraries, step by step."""

import stage1_extract.backbones  # noqa: F401  before a module here imports mmcv
