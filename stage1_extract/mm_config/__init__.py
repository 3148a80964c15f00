"""Presets from official config files: of mmcv 1.x, as CMT itself has them, and of mmdet3d 1.x.

Every field of the model is either used, known to change nothing, or reported. May import
preprocessing/. To read: `shared.config.mm_config`, `preset_from_config`, then the sections.
"""
