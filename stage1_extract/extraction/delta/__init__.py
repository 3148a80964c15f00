"""Extraction of deltas: what a condition changes, with the pipeline that fills any store.

May import the folder above, which knows nothing of it.
"""
