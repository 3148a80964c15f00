"""Pictures of evaluations and of AQR's sensor weights.

May import evaluation/.
"""
