"""Many runs of `train-stage2` from one command: which, on which device, and how far they are.

Imports only recipes; a run is a process of its own.
"""
