"""Measurements of speed, validation campaigns and training experiments."""
