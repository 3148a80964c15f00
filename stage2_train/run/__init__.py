"""A run on disk: its folder, checkpoints and logs, and the weights it starts from.

Promises that a checkpoint is either the old one or the new one, never torn, and that weights are
only joined with features they were trained on. May import recipes/.
"""
