"""Presets from official config files: mmcv 1.x, as CMT itself has them, and mmdet3d 1.x."""
