"""Where tokens and queries lie in space.

Imports no other folder of the model.
"""
