"""Plots samples: boxes and sensor weights on photos and points, and panels of features.

The only folder that imports matplotlib. May import nuscenes/, conditions/ and
preprocessing/.
"""
