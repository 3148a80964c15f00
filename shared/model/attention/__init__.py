"""Attention over the memory of both sensors: with a mask, with a bias, or inside windows only.

May import windows/, cpu/, kernels/ and geometry/.
"""
