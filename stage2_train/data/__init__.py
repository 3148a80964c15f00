"""From a store to batches: which samples, in which order, loaded and brought to the device.

Imports no other folder of stage 2.
"""
