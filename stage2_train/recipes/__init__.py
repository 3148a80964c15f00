"""How to train: every hyper-parameter of a run, as data.

Imports no other folder of stage 2.
"""
