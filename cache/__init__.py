"""The feature store: the only package that knows Zarr; it speaks NumPy.

A newcomer starts with `create`, `writer` and `reader`; README.md gives the order of the rest.
"""
