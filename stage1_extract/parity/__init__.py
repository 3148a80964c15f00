"""The comparison of live and cached features, outputs, losses, gradients and boxes.

Imports no other folder of stage 1: it compares any two feature sources.
"""
