"""Attention over the memory of both sensors: with a mask, with a bias, or inside windows alone.

May import geometry/.
"""
