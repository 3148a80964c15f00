"""The feature store: the only package that knows Zarr, and it speaks NumPy."""
