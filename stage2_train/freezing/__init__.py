"""Frozen means frozen: what a recipe freezes, and the proof that it did not change.

May import recipes/.
"""
