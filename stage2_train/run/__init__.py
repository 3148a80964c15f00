"""A run on disk: its folder, checkpoints, logs, and where its weights came from.

Imports no other folder of stage 2 but recipes/.
"""
