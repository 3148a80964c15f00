"""Reads nuScenes tables or mmdet3d info files, both into the same sample records.

A file that is missing, damaged or ambiguous is an error that names it. Imports no other folder of
`stage1_extract`.
"""
