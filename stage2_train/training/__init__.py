"""The training loop: step, optimizer, schedule, devices, and the assembly of a run.

May import recipes/, data/, freezing/ and run/.
"""
