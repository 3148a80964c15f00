"""Pictures of samples: boxes and sensor weights over photos and points, and panels of features.

May import nuscenes/ and preprocessing/.
"""
