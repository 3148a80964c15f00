"""How fast stage 2 is on a GPU, against what its kernels need: see `__main__.py`."""
