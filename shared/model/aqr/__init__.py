"""Adaptive query routing: per query, how far to trust LiDAR and cameras.

May import attention/ and geometry/.
"""
