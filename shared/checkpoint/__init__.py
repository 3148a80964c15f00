"""Reading official checkpoints safely, and which part of the detector a key belongs to.

May import `shared.errors` and `shared.digests`.
"""
