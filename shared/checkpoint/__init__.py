"""Official checkpoints: read safely, loaded strictly, every key assigned to a part of the detector.

May import `shared.errors` and `shared.digests`.
"""
