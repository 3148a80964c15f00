"""Many runs of `train-stage2` from one command: which, on which device, and how far they are.

Imports recipes, and of run the names of files; a run is a process of its own.
"""
