"""Compares two feature sources: maps, outputs, losses, gradients and boxes, live against cached.

It cannot pass where the sources disagree; NaN counts as disagreement. It compares any two feature
sources, so it imports no other folder of `stage1_extract`.
"""
