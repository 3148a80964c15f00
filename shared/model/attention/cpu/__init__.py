"""Attention with a bias, and inside windows only, on a CPU: torch's flash kernel, sparse matrices.

May import windows/.
"""
