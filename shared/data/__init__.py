"""Features and annotations of frames, as arrays and as batches of tensors.

May import config/.
"""
