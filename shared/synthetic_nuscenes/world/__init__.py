"""The synthetic world: scenes, objects and how they move.

May import no other folder of the synthetic data set.
"""
