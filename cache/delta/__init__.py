"""Delta stores: what a condition changes, beside the store of clean features that it was made from.

`delta_metadata` says what is on disk, `open_features` reads it together with its base. May import
everything in the cache but `__main__`; knows nothing of conditions but their names.
"""
