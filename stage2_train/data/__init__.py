"""From stored features to batches on the device: which samples, in which order, read ahead.

Promises that a batch is a function of the seed and the step: not of threads, processes or
interruptions. Imports no other folder of stage 2, and no store, only its protocol.
"""
