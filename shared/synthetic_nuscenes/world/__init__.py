"""The synthetic world: scenes, objects and how they move.

Imports no other folder of the synthetic data set.
"""
