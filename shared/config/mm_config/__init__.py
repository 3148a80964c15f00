"""Config files of mmcv 1.x and mmengine: loading them, and reading them so that no field is lost.

Both stages read such files, each its own sections. Imports `shared.errors`, and nothing of mm.
"""
