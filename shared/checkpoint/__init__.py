"""Official checkpoints: read safely, loaded strictly, every key assigned to a part of the detector.

May import `shared.errors`, `shared.digests` and `shared.file_kinds`.
"""
