"""Features and annotations of frames, as arrays and as batches of tensors, and who provides them.

May import config/.
"""
