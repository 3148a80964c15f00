"""Reading nuScenes: tables or mmdet3d info files become the same sample records.

Imports no other folder of stage 1.
"""
